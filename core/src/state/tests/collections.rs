//! Lists and maps.

use std::collections::BTreeMap;

use crate::state::{List, Map};

#[test]
fn a_clone_shares_until_it_is_written_to() {
    let mut list: List<u32> = vec![1, 2].into();
    let before = list.clone();
    assert_eq!(before.as_ptr(), list.as_ptr());
    list.push(3);
    assert_eq!((&**before, &**list), (&[1, 2][..], &[1, 2, 3][..]));
    let at = list.as_ptr();
    list[0] = 9;
    assert_eq!(list.as_ptr(), at, "an unshared value is not copied");
    assert_eq!(list.into_inner(), [9, 2, 3]);
    assert_eq!(before.into_inner(), [1, 2]);

    let mut map: Map<u8, String> = Map::default();
    let empty = map.clone();
    map.insert(1, "one".into());
    assert!(empty.is_empty() && empty != map);
    assert_eq!(map.into_inner(), BTreeMap::from([(1, "one".into())]));
}

#[test]
fn they_are_serialised_as_what_they_hold() {
    let map: Map<u8, List<u8>> = BTreeMap::from([(1, vec![2, 3].into())]).into();
    let bytes = rmp_serde::to_vec(&map).expect("it can be encoded");
    let plain = BTreeMap::from([(1u8, vec![2u8, 3])]);
    assert_eq!(bytes, rmp_serde::to_vec(&plain).expect("it can be encoded"));
    assert_eq!(rmp_serde::from_slice::<Map<u8, List<u8>>>(&bytes).expect("it is one"), map);
}
