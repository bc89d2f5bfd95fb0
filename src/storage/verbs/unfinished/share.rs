//! Whose upload is given up when no more can be kept.

use crate::auth::{Holding, to_take};
use crate::storage::write::handover::Owner;

/// Of the uploads that are kept, the one to give up for one more of `asker`; `None` if nobody keeps more than its share.
/// It is the oldest one of the user who keeps most, if that is no fewer without it than `asker` would then keep; a fleet of
/// devices may share a user, so its origins are compared in the same way.
pub(super) fn to_give_up<'a, K>(
    kept: impl Iterator<Item = (K, &'a Owner, u64)> + Clone,
    asker: &'a Owner,
) -> Option<K> {
    let numbers = kept.clone();
    let numbers = numbers.map(|(_, owner, number)| (number, holding(owner)));
    let oldest = to_take(numbers, holding(asker))?;
    let mut kept = kept.map(|(key, _, number)| (key, number));
    kept.find_map(|(key, number)| (number == oldest).then_some(key))
}

fn holding(owner: &Owner) -> Holding<'_> {
    Holding {
        user: owner.user(),
        origin: owner.origin(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(user: &str, host: u8) -> Owner {
        Owner::new(user, [192, 0, 2, host].into())
    }

    /// The place in this list, the oldest first, of the one that is given up.
    fn given_up(kept: &[(&str, u8)], asker: (&str, u8)) -> Option<usize> {
        let owners: Vec<_> = kept.iter().map(|(user, host)| owner(user, *host)).collect();
        let kept = owners.iter().enumerate();
        let kept = kept.map(|(index, owner)| (index, owner, index as u64));
        to_give_up(kept, &owner(asker.0, asker.1))
    }

    #[test]
    fn the_oldest_of_the_user_who_keeps_most() {
        let kept = [("bert", 1), ("anna", 1), ("anna", 1), ("anna", 1)];
        assert_eq!(given_up(&kept, ("carl", 1)), Some(1));
        assert_eq!(given_up(&kept, ("bert", 1)), Some(1));
        assert_eq!(given_up(&kept, ("anna", 1)), None);
        assert_eq!(given_up(&kept[..3], ("bert", 1)), None);
        assert_eq!(given_up(&[], ("bert", 1)), None);
    }

    #[test]
    fn of_devices_that_share_a_user_the_one_that_keeps_most() {
        let kept = [
            ("fleet", 2),
            ("fleet", 1),
            ("fleet", 1),
            ("anna", 9),
            ("anna", 9),
        ];
        assert_eq!(given_up(&kept, ("fleet", 3)), Some(1));
        assert_eq!(given_up(&kept, ("fleet", 2)), None);
        let one_each = [
            ("fleet", 1),
            ("fleet", 2),
            ("fleet", 3),
            ("anna", 9),
            ("anna", 9),
        ];
        assert_eq!(given_up(&one_each, ("fleet", 4)), None, "anna keeps fewer");
    }

    /// Whoever has a /64 has all its addresses, and with a shared user else takes the places of the whole fleet.
    #[test]
    fn addresses_of_one_network_are_one_device() {
        let at = |address: &str| Owner::new("fleet", address.parse().unwrap());
        let mut owners: Vec<_> = (1..=4)
            .map(|host| at(&format!("2001:db8::{host}")))
            .collect();
        owners.push(at("192.0.2.1"));
        let given_up = |asker: Owner| {
            let kept = owners.iter().enumerate();
            let kept = kept.map(|(index, owner)| (index, owner, index as u64));
            to_give_up(kept.rev(), &asker)
        };
        assert_eq!(given_up(at("192.0.2.2")), Some(0));
        assert_eq!(given_up(at("2001:db8::9")), None);
    }
}
