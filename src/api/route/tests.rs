use super::*;

const ID: &str = "-_v7-_v7-_v7-_v7-_v7-w";

#[test]
fn paths_lead_where_the_protocols_say() {
    let settings = Settings::of_tests("/rendezvous");
    for (create_path, endpoint) in [
        ("/rendezvous", Endpoint::Redirected),
        (MSC3886_PATH, Endpoint::Msc3886),
        (MSC4108_PATH, Endpoint::Msc4108),
        (MSC4388_PATH, Endpoint::Msc4388(Stability::Unstable)),
        (STABLE_PATH, Endpoint::Msc4388(Stability::Stable)),
    ] {
        let resource = |rest: &str| {
            let path = format!("{create_path}{rest}");
            let route = Route::find(&path, &settings)?;
            assert_eq!((route.endpoint, route.create_path), (endpoint, create_path));
            Some(match route.resource {
                Resource::Check => "check".to_owned(),
                Resource::CheckFacts => "facts".to_owned(),
                Resource::Create => "create".to_owned(),
                Resource::Session(id) => format!("session {}", id.is_some()),
                Resource::Transaction(id, name) => format!("{name} {}", id.is_some()),
                Resource::ForeignSession => "foreign".to_owned(),
            })
        };
        assert_eq!(resource("").as_deref(), Some("create"));
        assert_eq!(resource("/").as_deref(), Some("create"));
        assert_eq!(resource(&format!("/{ID}")).as_deref(), Some("session true"));
        assert_eq!(resource("/other").as_deref(), Some("session false"));
        let checks = endpoint == Endpoint::Redirected;
        let checked = if checks { "check" } else { "session false" };
        assert_eq!(resource("/check").as_deref(), Some(checked));
        let transactions = matches!(endpoint, Endpoint::Msc4388(_));
        let checked = match (checks, transactions) {
            (true, _) => Some("check"),
            (_, true) => Some(" false"),
            _ => None,
        };
        assert_eq!(resource("/check/").as_deref(), checked);
        let named = transactions.then_some("t.1 true");
        assert_eq!(resource(&format!("/{ID}/t.1")).as_deref(), named);
        assert_eq!(resource(&format!("/{ID}/t/1")), None);
        assert!(Route::find(&format!("{create_path}x"), &settings).is_none());
    }
    for path in ["", "/", "*", "/_matrix", "/rendezvou"] {
        assert_eq!(Route::find(path, &settings), None, "{path:?}");
    }
}

#[test]
fn an_empty_prefix_serves_the_root_beside_the_matrix_paths() {
    let settings = Settings::of_tests("");
    let resource =
        |path| Route::find(path, &settings).map(|route| (route.endpoint, route.resource));
    assert_eq!(
        resource("/"),
        Some((Endpoint::Redirected, Resource::Create))
    );
    assert_eq!(
        resource("/x"),
        Some((Endpoint::Redirected, Resource::Session(None)))
    );
    assert_eq!(
        resource(MSC3886_PATH),
        Some((Endpoint::Msc3886, Resource::Create))
    );
    assert_eq!(resource("/_matrix/client"), None);
}

#[test]
fn with_a_node_ids_have_its_name_or_are_foreign() {
    let mut settings = Settings::of_tests("/rendezvous");
    settings.node = Some("a".parse().unwrap());
    let resource = |name: &str| {
        let path = format!("{STABLE_PATH}/{name}/t");
        match Route::find(&path, &settings)?.resource {
            Resource::Transaction(id, "t") => Some(id.is_some()),
            Resource::ForeignSession => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(resource(&format!("a.{ID}")), Some(true));
    for foreign in [format!("b.{ID}"), ID.into()] {
        assert_eq!(resource(&foreign), None, "{foreign}");
    }
    for malformed in [
        "a.x",
        "b.x",
        "x",
        "",
        &format!("A.{ID}"),
        &format!("a.a.{ID}"),
    ] {
        assert_eq!(resource(malformed), Some(false), "{malformed}");
    }
}
