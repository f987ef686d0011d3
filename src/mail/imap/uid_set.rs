//! UIDs as an IMAP sequence set (RFC 3501 §9 `sequence-set`), in lines that every server takes.

/// The longest set put into one command, in bytes; RFC 7162 §4 asks servers to take lines of 8,192.
const SET_LIMIT: usize = 4000;

/// Writes `uids` as sets such as `1:5,9`, sorted, without doubles, each short enough for one command.
pub(super) fn uid_sets(uids: &[u32]) -> Vec<String> {
    let mut sorted = uids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut sets = vec![String::new()];
    for run in sorted.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let range = if first == last { first.to_string() } else { format!("{first}:{last}") };
        match sets.last_mut() {
            Some(set) if set.is_empty() => set.push_str(&range),
            Some(set) if set.len() + range.len() < SET_LIMIT => {
                set.push(',');
                set.push_str(&range);
            }
            _ => sets.push(range),
        }
    }
    sets.retain(|set| !set.is_empty());
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_back(sets: &[String]) -> Vec<u32> {
        let ranges = sets.iter().flat_map(|set| set.split(','));
        ranges
            .flat_map(|range| {
                let (first, last) = range.split_once(':').unwrap_or((range, range));
                first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
            })
            .collect()
    }

    #[test]
    fn neighbours_become_a_range() {
        assert_eq!(uid_sets(&[9, 1, 2, 3, 3, 11]), vec!["1:3,9,11"]);
        assert_eq!(uid_sets(&[u32::MAX]), vec!["4294967295"]);
        assert!(uid_sets(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn every_uid_is_named_once(uids in proptest::collection::vec(1_u32..5000, 0..3000)) {
            let sets = uid_sets(&uids);
            let mut expected = uids;
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(read_back(&sets), expected);
            prop_assert!(sets.iter().all(|set| set.len() <= SET_LIMIT));
        }
    }
}
