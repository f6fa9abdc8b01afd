//! What differs between the versions of the format.

use std::io::Read;

use super::error::LoadError;
use super::stream::Input;
use crate::store::Owner;

/// The owner of a session.
pub(super) fn read_owner(input: &mut Input<impl Read>, version: u32) -> Result<Owner, LoadError> {
    if version < 3 {
        return Ok(Owner::UNKNOWN);
    }
    Ok(Owner([input.number()?, input.number()?, input.number()?]))
}

/// The times of a session.
pub(super) struct Times {
    pub(super) modified_at: u64,
    pub(super) expires_at: u64,
    pub(super) last_used: u64,
}

pub(super) fn read_times(
    input: &mut Input<impl Read>,
    version: u32,
    written: u64,
) -> Result<Times, LoadError> {
    if version > 1 {
        return Ok(Times {
            modified_at: input.number()?,
            expires_at: input.number()?,
            last_used: input.number()?,
        });
    }
    let (expires_at, remaining) = (input.number()?, input.number()?);
    let tick = u16::from_le_bytes(input.array()?);
    Ok(Times {
        modified_at: expires_at
            .checked_sub(remaining)
            .ok_or(LoadError::Damaged)?,
        expires_at,
        last_used: time_of_tick(tick, written),
    })
}

/// The time of a use in a file of version 1, to within two seconds: no session
/// lives through the 37 hours after which its ticks repeat.
fn time_of_tick(tick: u16, written: u64) -> u64 {
    const TICK: u64 = 2_048;
    let now = written / TICK % (1 << 16);
    let ago = (now + (1 << 16) - u64::from(tick)) % (1 << 16);
    written.saturating_sub(ago * TICK)
}

/// Whether the first payload was fetched.
pub(super) fn read_fetched(input: &mut Input<impl Read>, version: u32) -> Result<bool, LoadError> {
    if version == 1 {
        // Most reads are polls of the device that created the session.
        let _all_reads: [u8; 2] = input.array()?;
        return Ok(false);
    }
    match input.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(LoadError::Damaged),
    }
}
