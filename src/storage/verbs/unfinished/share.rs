//! Whose upload is given up when no more can be kept.

use std::collections::HashMap;
use std::hash::Hash;

use crate::storage::write::handover::Owner;

/// Of the uploads that are kept, the one to give up for one more of `asker`; `None` if nobody keeps more than its share.
/// It is the oldest one of the user who keeps most, if that is more than `asker` would then keep. Of users who keep no
/// fewer than the asker's, the addresses are compared in the same way: a fleet of devices may share a user.
pub(super) fn to_give_up<'a, K>(
    kept: impl Iterator<Item = (K, &'a Owner, u64)> + Clone,
    asker: &Owner,
) -> Option<K> {
    let by_user = counts(kept.clone().map(|(_, owner, _)| owner.user()));
    let of_user = |owner: &Owner| by_user.get(owner.user()).copied().unwrap_or(0);
    let most = by_user.values().copied().max()?;
    let own = of_user(asker);
    if own + 1 < most {
        let of_largest = kept.filter(|(_, owner, _)| of_user(owner) == most);
        return oldest(of_largest);
    }
    let by_owner = counts(kept.clone().map(|(_, owner, _)| owner));
    let of_owner = |owner: &Owner| by_owner.get(owner).copied().unwrap_or(0);
    let candidates = kept.filter(|(_, owner, _)| of_user(owner) >= own);
    let most = candidates.clone().map(|(_, owner, _)| of_owner(owner));
    let most = most.max().filter(|most| of_owner(asker) + 1 < *most)?;
    oldest(candidates.filter(|(_, owner, _)| of_owner(owner) == most))
}

fn counts<T: Eq + Hash>(all: impl Iterator<Item = T>) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

fn oldest<'a, K>(kept: impl Iterator<Item = (K, &'a Owner, u64)>) -> Option<K> {
    let oldest = kept.min_by_key(|(_, _, number)| *number);
    oldest.map(|(key, _, _)| key)
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
}
