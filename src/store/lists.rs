//! Doubly linked lists whose items are in one vector: no step allocates, and
//! all take constant time.

use std::ops::{Index, IndexMut};

/// The number of an item; [`NONE`] is no item's.
pub(super) type Number = u32;

pub(super) const NONE: Number = 0;

/// The ends of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) first: Number,
    pub(super) last: Number,
}

#[derive(Debug, Default)]
struct Item<T> {
    previous: Number,
    next: Number,
    value: T,
}

/// The items of many lists.
#[derive(Debug)]
pub(super) struct Lists<T> {
    /// The first of them is a place holder, for [`NONE`].
    items: Vec<Item<T>>,
    /// The first free item; each links to the next.
    free: Number,
}

impl<T: Default> Lists<T> {
    /// What an item takes, in bytes.
    pub(super) const ITEM: usize = size_of::<Item<T>>();

    /// Room for so many items. It grows past that, which takes long.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut items = Vec::with_capacity(capacity + 1);
        items.push(Item::default());
        Self { items, free: NONE }
    }

    /// Adds an item that is in no list yet.
    #[expect(clippy::expect_used, reason = "there are a few items a session")]
    pub(super) fn add(&mut self, value: T) -> Number {
        let number = self.free;
        if number == NONE {
            self.items.push(Item::default());
            let last = Number::try_from(self.items.len() - 1);
            let number = last.expect("fewer items than numbers");
            self[number] = value;
            return number;
        }
        self.free = self.next(number);
        *self.item(number) = Item {
            value,
            ..Item::default()
        };
        number
    }

    /// Frees an item that is in no list any more.
    pub(super) fn free(&mut self, number: Number) {
        *self.item(number) = Item {
            next: self.free,
            ..Item::default()
        };
        self.free = number;
    }

    pub(super) fn previous(&self, number: Number) -> Number {
        self.items[number as usize].previous
    }

    pub(super) fn next(&self, number: Number) -> Number {
        self.items[number as usize].next
    }

    /// Puts an item that is in no list behind another, or to the front.
    pub(super) fn insert_after(&mut self, list: &mut List, number: Number, previous: Number) {
        let next = match previous {
            NONE => std::mem::replace(&mut list.first, number),
            _ => std::mem::replace(&mut self.item(previous).next, number),
        };
        match next {
            NONE => list.last = number,
            _ => self.item(next).previous = number,
        }
        let item = self.item(number);
        (item.previous, item.next) = (previous, next);
    }

    pub(super) fn push_front(&mut self, list: &mut List, number: Number) {
        self.insert_after(list, number, NONE);
    }

    pub(super) fn push_back(&mut self, list: &mut List, number: Number) {
        self.insert_after(list, number, list.last);
    }

    /// Takes an item out of the list that it is in.
    pub(super) fn remove(&mut self, list: &mut List, number: Number) {
        let (previous, next) = (self.previous(number), self.next(number));
        match previous {
            NONE => list.first = next,
            _ => self.item(previous).next = next,
        }
        match next {
            NONE => list.last = previous,
            _ => self.item(next).previous = previous,
        }
    }

    fn item(&mut self, number: Number) -> &mut Item<T> {
        &mut self.items[number as usize]
    }
}

impl<T> Index<Number> for Lists<T> {
    type Output = T;

    fn index(&self, number: Number) -> &T {
        &self.items[number as usize].value
    }
}

impl<T> IndexMut<Number> for Lists<T> {
    fn index_mut(&mut self, number: Number) -> &mut T {
        &mut self.items[number as usize].value
    }
}

#[cfg(test)]
impl<T> Lists<T> {
    /// How many items there are or were at once, the place holder included.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(lists: &Lists<char>, list: List) -> String {
        let following = |number: &Number| Some(lists.next(*number)).filter(|next| *next != NONE);
        let first = Some(list.first).filter(|first| *first != NONE);
        std::iter::successors(first, following)
            .map(|number| lists[number])
            .collect()
    }

    #[test]
    fn items_are_where_they_were_put() {
        let mut lists = Lists::with_capacity(3);
        let (mut one, mut other) = (List::default(), List::default());
        let [a, b, c, d] = ['a', 'b', 'c', 'd'].map(|value| lists.add(value));
        lists.push_back(&mut one, b);
        lists.push_back(&mut one, d);
        lists.push_front(&mut one, a);
        lists.insert_after(&mut one, c, b);
        assert_eq!(values(&lists, one), "abcd");
        assert_eq!((lists.previous(c), lists.previous(a)), (b, NONE));
        for (number, left) in [(c, "abd"), (a, "bd"), (d, "b")] {
            lists.remove(&mut one, number);
            lists.push_back(&mut other, number);
            assert_eq!(values(&lists, one), left);
        }
        assert_eq!(values(&lists, other), "cad");
        lists.remove(&mut one, b);
        assert_eq!(one, List::default());
    }

    #[test]
    fn freed_items_are_used_again() {
        let mut lists = Lists::with_capacity(2);
        let numbers = ['a', 'b', 'c'].map(|value| lists.add(value));
        lists.free(numbers[0]);
        lists.free(numbers[2]);
        let again = [lists.add('d'), lists.add('e')];
        assert_eq!(again, [numbers[2], numbers[0]]);
        assert_eq!(numbers.map(|number| lists[number]), ['e', 'b', 'd']);
        assert_eq!(lists.add('f'), 4);
    }
}
