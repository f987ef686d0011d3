use super::*;
use crate::work::lane::SkillNeed;

const NOW: Timestamp = Timestamp::from_millis(10_000_000);

fn agent(group: GroupId) -> Agent {
    Agent {
        id: UserId::new(NOW),
        state: AgentState::Ready,
        idle_since: NOW,
        last_offered_at: Timestamp::ZERO,
        groups: vec![group],
        skills: HashMap::new(),
        capacity: PerChannel { email: 2, sms: 1 },
        load: PerChannel::default(),
    }
}

fn queue(group: GroupId, distribution: Distribution) -> Served {
    Served {
        id: QueueId::new(NOW),
        name: "q".into(),
        state: QueueState::Open,
        distribution,
        last_agent_first: false,
        aging_s: None,
        groups: vec![group],
    }
}

fn demand(queue: &Served) -> Demand<'_> {
    Demand {
        channel: Channel::Email,
        lane: Lane::default(),
        target: None,
        last_agent: None,
        declined: Vec::new(),
        queue: Some(queue),
    }
}

#[test]
fn every_reason_is_told_at_once() {
    let (group, other) = (GroupId::new(NOW), GroupId::new(NOW));
    let skill_id = SkillId::new(NOW);
    let mut queue = queue(group, Distribution::LongestIdle);
    queue.state = QueueState::Closed;
    let mut agent = agent(other);
    agent.state = AgentState::NotReady;
    agent.load.email = 2;
    let mut demand = demand(&queue);
    demand.lane = Lane::new(None, vec![SkillNeed { skill_id, min_level: 4 }]);
    demand.declined = vec![Declined { agent_id: agent.id, at: NOW.plus_s(-20) }];
    assert_eq!(
        refusals(&demand, &agent, NOW),
        [
            Refusal::NotReady { state: AgentState::NotReady },
            Refusal::NoCapacity { capacity: 2, load: 2 },
            Refusal::QueueClosed,
            Refusal::NotInGroup,
            Refusal::MissingSkill { skill_id, have: 0, need: 4 },
            Refusal::DeclinedRecently { until: NOW.plus_s(40) },
        ]
    );
}

#[test]
fn each_rule_chooses_its_agent() {
    let group = GroupId::new(NOW);
    let skill_id = SkillId::new(NOW);
    let mut idle = agent(group);
    idle.idle_since = NOW.plus_s(-600);
    idle.last_offered_at = NOW.plus_s(-500);
    let mut waiting_turn = agent(group);
    waiting_turn.idle_since = NOW.plus_s(-100);
    waiting_turn.last_offered_at = NOW.plus_s(-900);
    let mut spare = agent(group);
    spare.capacity.email = 5;
    spare.last_offered_at = NOW.plus_s(-10);
    let mut expert = agent(group);
    expert.skills.insert(skill_id, 9);
    expert.last_offered_at = NOW.plus_s(-10);
    for agent in [&mut idle, &mut waiting_turn, &mut spare] {
        agent.skills.insert(skill_id, 3);
    }
    let all = [&idle, &waiting_turn, &spare, &expert];
    for (rule, chosen) in [
        (Distribution::LongestIdle, &idle),
        (Distribution::RoundRobin, &waiting_turn),
        (Distribution::MostSpare, &spare),
        (Distribution::BestSkill, &expert),
    ] {
        let queue = queue(group, rule);
        let mut demand = demand(&queue);
        demand.lane = Lane::new(None, vec![SkillNeed { skill_id, min_level: 2 }]);
        assert_eq!(choose(&demand, all.into_iter(), NOW), Choice::Agent(chosen.id), "{rule:?}");
    }
}

#[test]
fn a_manual_queue_gives_only_what_is_held_for_an_agent() {
    let group = GroupId::new(NOW);
    let agent = agent(group);
    let queue = queue(group, Distribution::Manual);
    let mut demand = demand(&queue);
    demand.last_agent = Some(agent.id);
    assert_eq!(choose(&demand, std::iter::once(&agent), NOW), Choice::Nobody);
    demand.target = Some(agent.id);
    assert_eq!(choose(&demand, std::iter::once(&agent), NOW), Choice::Agent(agent.id));
}

#[test]
fn the_last_agent_comes_before_the_rule_where_the_queue_says_so() {
    let group = GroupId::new(NOW);
    let (mut idle, last) = (agent(group), agent(group));
    idle.idle_since = NOW.plus_s(-600);
    let mut queue = queue(group, Distribution::LongestIdle);
    for (last_agent_first, chosen) in [(false, idle.id), (true, last.id)] {
        queue.last_agent_first = last_agent_first;
        let mut demand = demand(&queue);
        demand.last_agent = Some(last.id);
        assert_eq!(choose(&demand, [&idle, &last].into_iter(), NOW), Choice::Agent(chosen));
    }
}

#[test]
fn who_declined_is_asked_last_and_after_a_pause() {
    let group = GroupId::new(NOW);
    let (first, mut second) = (agent(group), agent(group));
    let queue = queue(group, Distribution::LongestIdle);
    let mut demand = demand(&queue);
    demand.declined = vec![Declined { agent_id: first.id, at: NOW }];
    assert_eq!(choose(&demand, [&first, &second].into_iter(), NOW), Choice::Agent(second.id));
    let alone = |at| choose(&demand, std::iter::once(&first), at);
    assert_eq!(alone(NOW), Choice::Later(NOW.plus_s(DECLINED_ALONE_S)));
    assert_eq!(alone(NOW.plus_s(DECLINED_ALONE_S)), Choice::Agent(first.id));
    second.load.email = 2;
    let others_busy = choose(&demand, [&first, &second].into_iter(), NOW.plus_s(DECLINED_ALONE_S));
    assert_eq!(others_busy, Choice::Later(NOW.plus_s(DECLINED_S)));
}

#[test]
fn an_item_held_for_an_agent_goes_to_nobody_else_whatever_the_group() {
    let group = GroupId::new(NOW);
    let (target, other) = (agent(GroupId::new(NOW)), agent(group));
    let queue = queue(group, Distribution::LongestIdle);
    let mut demand = demand(&queue);
    demand.target = Some(target.id);
    assert_eq!(choose(&demand, [&other].into_iter(), NOW), Choice::Nobody);
    assert_eq!(choose(&demand, [&other, &target].into_iter(), NOW), Choice::Agent(target.id));
}
