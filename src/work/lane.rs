//! Lanes: what an item asks of an agent, in one word, so that items that can go to the same agents lie side by side in
//! the queue's index and a search never wades through items that nobody present can take.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{GroupId, SkillId};

/// A skill that an agent must have, and at least how well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct SkillNeed {
    /// The skill.
    pub skill_id: SkillId,
    /// The lowest level that will do, 1–10.
    #[schema(minimum = 1, maximum = 10)]
    pub min_level: i32,
}

/// What an item asks of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Only members of this group.
    pub group: Option<GroupId>,
    /// Only agents with all of these skills, in the order of their ids.
    pub skills: Vec<SkillNeed>,
}

impl Lane {
    /// A lane; a skill named twice counts with its highest level.
    pub fn new(group: Option<GroupId>, mut skills: Vec<SkillNeed>) -> Self {
        skills.sort_unstable_by(|a, b| (a.skill_id, b.min_level).cmp(&(b.skill_id, a.min_level)));
        skills.dedup_by_key(|need| need.skill_id);
        Self { group, skills }
    }

    /// The lane in one word: equal lanes have equal words.
    pub fn key(&self) -> String {
        let group = self.group.map(|group| group.to_string()).unwrap_or_default();
        let skills: Vec<String> =
            self.skills.iter().map(|need| format!("{}:{}", need.skill_id, need.min_level)).collect();
        if group.is_empty() && skills.is_empty() {
            String::new()
        } else {
            format!("{group}|{}", skills.join(","))
        }
    }

    /// Reads the word again; none when it is not one of ours.
    pub fn parse(key: &str) -> Option<Self> {
        if key.is_empty() {
            return Some(Self::default());
        }
        let (group, skills) = key.split_once('|')?;
        let group = if group.is_empty() { None } else { Some(group.parse().ok()?) };
        let skills = skills.split(',').filter(|part| !part.is_empty()).map(|part| {
            let (skill, level) = part.split_once(':')?;
            Some(SkillNeed { skill_id: skill.parse().ok()?, min_level: level.parse().ok()? })
        });
        Some(Self { group, skills: skills.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_lane_is_read_as_it_was_written() {
        let now = Timestamp::from_millis(1_000_000);
        let need = |min_level| SkillNeed { skill_id: SkillId::new(now), min_level };
        let group = Some(GroupId::new(now));
        for lane in [
            Lane::default(),
            Lane::new(group, Vec::new()),
            Lane::new(None, vec![need(3)]),
            Lane::new(group, vec![need(10), need(1)]),
        ] {
            assert_eq!(Lane::parse(&lane.key()), Some(lane));
        }
        assert_eq!(Lane::default().key(), "");
    }

    #[test]
    fn the_order_of_skills_does_not_matter_and_the_highest_level_counts() {
        let now = Timestamp::from_millis(1_000_000);
        let (a, b) = (SkillId::new(now), SkillId::new(now));
        let need = |skill_id, min_level| SkillNeed { skill_id, min_level };
        let one = Lane::new(None, vec![need(a, 2), need(b, 5), need(a, 7)]);
        let other = Lane::new(None, vec![need(b, 5), need(a, 7)]);
        assert_eq!(one, other);
    }
}
