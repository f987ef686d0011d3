//! Races for an item, without HTTP: whatever wins, one legal history is left.
//!
//! The ordinary run does a sample of them; `POSTROOM_TEST_RACES` is how many offers to race for over both databases:
//! `POSTROOM_TEST_RACES=10000 make test-fast ARGS=work_races`.

use std::sync::Arc;

use postroom::{
    agents::entity::AgentState,
    app::App,
    http::{Caller, Problem, caller::Role},
    id::{QueueId, UserId},
    work::{
        act::{self, Destination},
        agent_left, claim, decline,
        entity::{OfferState, WorkState, offer, work_item},
        journal::Journal,
        offer as offers,
    },
};

use crate::{
    floor::Floor,
    on_both,
    support::{Backend, TestApp},
};

/// How many offers each database's run races for; each is raced for by five.
fn rounds() -> usize {
    let races = std::env::var("POSTROOM_TEST_RACES").ok().and_then(|text| text.parse().ok());
    races.unwrap_or(800_usize).div_ceil(2).div_ceil(OFFERS)
}

/// Offers that are raced for at the same time.
const OFFERS: usize = 20;

fn caller(id: UserId, role: Role) -> Caller {
    Caller { id: id.uuid(), name: "racer".into(), role, scopes: Vec::new() }
}

/// One transaction of one racer; a lost race leaves nothing.
macro_rules! try_to {
    ($app:expr, |$tx:ident, $journal:ident| $work:expr) => {{
        let work = async {
            let $tx = $app.db.begin().await?;
            let mut $journal = Journal::new($app.clock.now());
            $work.await?;
            $journal.write(&$tx).await?;
            $tx.commit().await?;
            Ok::<(), Problem>(())
        };
        let done: Result<(), Problem> = work.await;
        if let Err(problem) = &done {
            assert!(problem.code.status() < 500, "{problem}");
        }
        done.is_ok()
    }};
}

/// What became of one offer, by who said to have won.
struct Outcome {
    accepted: bool,
    rejected: bool,
    transferred: bool,
    completed: bool,
    released: bool,
}

/// Accept, reject, transfer by a supervisor, completion and release by the agent, all at once.
async fn race(app: App, offer: offer::Model, queue: QueueId) -> Outcome {
    let agent = caller(offer.agent_id, Role::Agent);
    let boss = caller(offer.agent_id, Role::Supervisor);
    let item = offer.work_item_id;
    let accept =
        async { try_to!(app, |tx, journal| offers::accept(&tx, &mut journal, offer.id, offer.agent_id)) };
    let reject = async {
        try_to!(app, |tx, journal| decline::reject(&tx, &mut journal, offer.id, offer.agent_id, None))
    };
    let transfer = async {
        try_to!(app, |tx, journal| act::transfer(
            &tx,
            &mut journal,
            item,
            &boss,
            Destination::Queue(queue),
            None
        ))
    };
    let complete = async { try_to!(app, |tx, journal| act::complete(&tx, &mut journal, item, &agent, None)) };
    let release = async { try_to!(app, |tx, journal| act::release(&tx, &mut journal, item, &agent)) };
    let (accepted, rejected, transferred, completed, released) =
        tokio::join!(accept, reject, transfer, complete, release);
    Outcome { accepted, rejected, transferred, completed, released }
}

fn judge(outcome: &Outcome, offer: &offer::Model, item: &work_item::Model, aside: QueueId) {
    assert!(!(outcome.accepted && outcome.rejected), "accepted and rejected: {offer:?}");
    let legal: &[OfferState] = match (outcome.accepted, outcome.rejected, outcome.transferred) {
        (true, ..) => &[OfferState::Accepted],
        (_, true, _) => &[OfferState::Rejected],
        // A supervisor may also transfer an item whose offer has just timed out.
        (.., true) => &[OfferState::Rescinded, OfferState::TimedOut],
        _ => &[OfferState::TimedOut],
    };
    assert!(legal.contains(&offer.state), "{offer:?} is none of {legal:?}: {item:?}");
    if outcome.transferred && !outcome.accepted {
        assert_eq!((item.state, item.queue_id), (WorkState::Queued, Some(aside)), "{item:?}");
    }
    assert!(!outcome.completed || outcome.accepted, "completed by an agent who never had it: {item:?}");
    assert!(!outcome.released || outcome.accepted, "released by an agent who never had it: {item:?}");
    assert_eq!(item.state == WorkState::Completed, outcome.completed, "{item:?}");
}

on_both! {
    async fn every_race_for_an_offer_leaves_one_legal_history(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = i32::try_from(OFFERS).unwrap()).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let aside = floor.queue(&[], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        for round in 0..rounds() {
            let arrivals = floor.mails(&account, "race", OFFERS).await;
            floor.arrive(arrivals).await;
            assert_eq!(floor.distribute().await, OFFERS, "round {round}");
            let pending: Vec<offer::Model> =
                floor.offers().await.into_iter().filter(|offer| offer.state == OfferState::Pending).collect();
            let lapse = async {
                if round % 2 == 0 {
                    app.app.clock.advance(std::time::Duration::from_secs(30));
                    decline::lapse(&app.app, app.app.clock.now()).await.unwrap();
                }
            };
            let races = futures::future::join_all(
                pending.iter().map(|offer| tokio::spawn(race(app.app.clone(), offer.clone(), aside.id))),
            );
            let (outcomes, ()) = tokio::join!(races, lapse);
            if round % 2 == 0 {
                floor.wait_s(0).await;
            }
            floor.check().await;
            let offers = floor.offers().await;
            for (outcome, offer) in outcomes.into_iter().zip(&pending) {
                let offer = offers.iter().find(|one| one.id == offer.id).unwrap();
                use sea_orm::EntityTrait;
                let item = work_item::Entity::find_by_id(offer.work_item_id);
                let item = item.one(app.app.db.read()).await.unwrap().unwrap();
                judge(&outcome.unwrap(), offer, &item, aside.id);
            }
            empty_desk(&app.app, anna.id).await;
        }
    }

    async fn claims_of_many_agents_never_take_an_item_twice_nor_exceed_capacity(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 3).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let mut agents = Vec::new();
        for number in 0..6 {
            agents.push(floor.agent(&format!("a{number}"), &[group.id]).await.id);
        }
        let mut arrivals = Vec::new();
        for _ in 0..30 {
            arrivals.push(floor.mail(&account, "claim").await);
        }
        floor.arrive(arrivals).await;
        let shared = Arc::new(app.app.clone());
        let claims = agents.iter().cycle().take(60).map(|agent| {
            let (app, agent) = (Arc::clone(&shared), *agent);
            tokio::spawn(async move {
                let wanted = claim::Claim { agent, queue: None };
                let reach = claim::Reach::of(app.db.read(), &[wanted]).await.unwrap();
                try_to!(app, |tx, journal| claim::next(&tx, &mut journal, &reach, wanted))
            })
        });
        let distributing = tokio::spawn(postroom::work::distribute::distribute(app.app.clone()));
        let claimed = futures::future::join_all(claims).await.into_iter().filter(|one| *one.as_ref().unwrap()).count();
        distributing.await.unwrap().unwrap();
        floor.check().await;
        let offered = floor.offers().await.len();
        // A claim that finds its candidate locked gives up only when nothing else is left.
        floor.distribute().await;
        floor.check().await;
        assert_eq!(claimed + floor.offers().await.len(), 18, "{claimed} claimed, {offered} offered meanwhile");
    }
}

/// The agent leaves and comes back with nothing to do.
async fn empty_desk(app: &App, agent: UserId) {
    let tx = app.db.begin().await.unwrap();
    agent_left(&tx, agent, app.clock.now(), true).await.unwrap();
    tx.commit().await.unwrap();
    clear(app).await;
}

/// What is left over from one round does not take part in the next.
async fn clear(app: &App) {
    use sea_orm::EntityTrait;
    let tx = app.db.begin().await.unwrap();
    work_item::Entity::delete_many().exec(&*tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_who_leaves_while_two_replicas_distribute_has_no_pending_offer_left() {
    let app = TestApp::start(Backend::Postgres).await;
    let floor = Floor(&app);
    let group = floor.group(|group| group.capacity_email = 4).await;
    let queue = floor.queue(&[group.id], |_| {}).await;
    let account = floor.account(Some(queue.id), None).await;
    let anna = floor.agent("anna", &[group.id]).await;
    let replica = app.replica().await;
    for _ in 0..10 {
        floor.set_agent(anna.id, |agent| agent.state = AgentState::Ready).await;
        let mail = floor.mail(&account, "hello").await;
        floor.arrive(vec![mail]).await;
        let leave = async {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
            let tx = app.app.db.begin().await.unwrap();
            postroom::agents::entity::agent::Entity::update_many()
                .col_expr(postroom::agents::entity::agent::Column::State, Expr::value(AgentState::LoggedOff))
                .filter(postroom::agents::entity::agent::Column::Id.eq(anna.id))
                .exec(&*tx)
                .await
                .unwrap();
            agent_left(&tx, anna.id, floor.now(), true).await.unwrap();
            tx.commit().await.unwrap();
        };
        let other = Floor(&replica);
        tokio::join!(leave, floor.distribute(), other.distribute());
        floor.check().await;
        assert!(floor.offers().await.iter().all(|offer| offer.state != OfferState::Pending));
    }
}
