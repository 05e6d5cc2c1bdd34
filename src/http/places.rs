//! The places of a port whose callers are members of a group, or strangers.
//!
//! Who calls is known only once a message was read. So each connection begins in a part of the port that is for strangers,
//! and that refuses nobody: where it is full, the connection goes that showed nothing for longest, be it amid a message.
//! Each has its [`grace`] for its first message, from when it is served, however many come at once: so long the next ones
//! wait in the kernel's queue. That also bounds what a flood of connections costs: [`MAX_NEW_A_SECOND`].
//! One that has brought a message of a member is counted apart from then on, where no stranger takes its place.
//!
//! Each member has a share of that other part: all of it divided by the members that are there. One that has more gives up
//! what it has not used for longest where another lacks a place. Beyond its share its further connections stay among the
//! strangers, and end with their answer.
//!
//! Caveats: whoever can forge a member's message uses that member's share, and no other's. A lasting flood of more
//! connections a second than are taken fills the kernel's queue, in which a member's *new* connection waits as well; those
//! that it has are not affected.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A message that was sent with the connection arrives within this time, unless it is large.
const MAX_GRACE: Duration = Duration::from_millis(250);

/// The shortest time that may be given: a message that was sent with the connection is there sooner.
const MIN_GRACE: Duration = Duration::from_millis(25);

/// So many connections are taken at most in a second while all places are taken. Fewer places are given for shorter times,
/// so that a flood that few places could not take keeps no member waiting.
const MAX_NEW_A_SECOND: u32 = 4_096;

/// How long each of so many places is given for a first message, where others wait.
fn grace(for_strangers: usize) -> Duration {
    let places = u32::try_from(for_strangers).unwrap_or(u32::MAX);
    (Duration::from_secs(1) * places.min(MAX_NEW_A_SECOND) / MAX_NEW_A_SECOND).clamp(MIN_GRACE, MAX_GRACE)
}

/// All places of a port; clones share them.
#[derive(Debug, Clone)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    for_strangers: usize,
    grace: Duration,
    for_members: usize,
    taken: Mutex<Taken>,
    /// The first time that a connection is served.
    served: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// Counts connections, and what they show, as a clock.
    now: u64,
    /// By the time at which they were heard last; the instant is `None` before it is served.
    strangers: BTreeMap<u64, (Option<Instant>, CancellationToken)>,
    /// Of each member, by the time at which they were heard last.
    members: HashMap<u64, BTreeMap<u64, CancellationToken>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Heard last at that time.
    Stranger(u64),
    /// Whose it is, and the same.
    Member(u64, u64),
    /// Others needed its place.
    Gone,
}

/// One connection's place, for as long as it lives.
#[derive(Debug)]
pub(super) struct Entered {
    place: Place,
    gone: CancellationToken,
}

/// The place of the connection that a request came on.
#[derive(Debug, Clone)]
pub struct Place(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    shared: Arc<Shared>,
    /// Locked after `taken`.
    standing: Mutex<Standing>,
}

impl Places {
    /// So many connections of strangers, and so many of all members together, at a time. At least one of each.
    pub fn new(for_strangers: usize, for_members: usize) -> Self {
        let taken = Mutex::default();
        let (for_strangers, for_members) = (for_strangers.max(1), for_members.max(1));
        let grace = grace(for_strangers);
        Self(Arc::new(Shared { for_strangers, grace, for_members, taken, served: Notify::new() }))
    }

    /// Waits until a new connection may come.
    pub(super) async fn room(&self) {
        let grace = self.0.grace;
        loop {
            let served = self.0.served.notified();
            match self.stalest() {
                None => return,
                Some(None) => served.await,
                Some(Some(since)) if since.elapsed() >= grace => return,
                Some(Some(since)) => sleep_until(since + grace).await,
            }
        }
    }

    /// Where there is no place left: since when the stranger was served and showed nothing that goes next.
    fn stalest(&self) -> Option<Option<Instant>> {
        let taken = self.0.taken.lock();
        let is_full = taken.strangers.len() >= self.0.for_strangers;
        taken.strangers.first_key_value().filter(|_| is_full).map(|(_, (since, _))| *since)
    }

    /// A new connection, in place of another if there is none.
    pub(super) fn enter(&self) -> Entered {
        let (mut taken, gone) = (self.0.taken.lock(), CancellationToken::new());
        if taken.strangers.len() >= self.0.for_strangers
            && let Some((_, (_, stalest))) = taken.strangers.pop_first()
        {
            stalest.cancel();
        }
        let now = taken.next();
        taken.strangers.insert(now, (None, gone.clone()));
        let seat = Seat { shared: self.0.clone(), standing: Mutex::new(Standing::Stranger(now)) };
        Entered { place: Place(Arc::new(seat)), gone }
    }
}

impl Entered {
    fn serve(&self) {
        let seat = &self.place.0;
        let mut taken = seat.shared.taken.lock();
        if let Standing::Stranger(at) = *seat.standing.lock()
            && let Some((since, _)) = taken.strangers.get_mut(&at)
        {
            *since = Some(Instant::now());
        }
        seat.shared.served.notify_one();
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// It is served from now on. Ends once others need the place.
    pub(super) async fn gone(&self) {
        self.serve();
        self.gone.cancelled().await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let seat = &self.place.0;
        let mut taken = seat.shared.taken.lock();
        let standing = std::mem::replace(&mut *seat.standing.lock(), Standing::Gone);
        drop(taken.leave(standing));
    }
}

impl Place {
    /// The connection brought a message that can be read, of this member or of a stranger. False where it has to end with
    /// the answer, because its member has its share.
    pub fn heard(&self, member: Option<u64>) -> bool {
        let seat = &self.0;
        let mut taken = seat.shared.taken.lock();
        let mut standing = seat.standing.lock();
        let Some((was, gone)) = taken.leave(*standing) else {
            *standing = Standing::Gone;
            return false;
        };
        let now = taken.next();
        let of = was.or(member.filter(|member| taken.has_place(*member, seat.shared.for_members)));
        *standing = match of {
            Some(member) => {
                taken.members.entry(member).or_default().insert(now, gone);
                Standing::Member(member, now)
            }
            None => {
                taken.strangers.insert(now, (Some(Instant::now()), gone));
                Standing::Stranger(now)
            }
        };
        of.is_some() || member.is_none()
    }
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Takes a connection out: the member whose it was, and what ends it.
    fn leave(&mut self, standing: Standing) -> Option<(Option<u64>, CancellationToken)> {
        match standing {
            Standing::Stranger(at) => self.strangers.remove(&at).map(|(_, gone)| (None, gone)),
            Standing::Member(member, at) => {
                let has = self.members.get_mut(&member)?;
                let gone = has.remove(&at)?;
                if has.is_empty() {
                    self.members.remove(&member);
                }
                Some((Some(member), gone))
            }
            Standing::Gone => None,
        }
    }

    /// True where there is a place for one more connection of this member; another may have to end for it.
    fn has_place(&mut self, member: u64, most: usize) -> bool {
        if self.members.values().map(BTreeMap::len).sum::<usize>() < most {
            return true;
        }
        let has = self.members.get(&member).map_or(0, BTreeMap::len);
        let members = self.members.len() + usize::from(has == 0);
        let Some(greediest) = self.members.values_mut().max_by_key(|has| has.len()) else { return false };
        // Else it would only take turns with one that has as many.
        if has >= most / members || greediest.len() <= has + 1 {
            return false;
        }
        if let Some((_, unused)) = greediest.pop_first() {
            unused.cancel();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn are_gone(all: &[Entered]) -> Vec<bool> {
        all.iter().map(|one| one.gone.is_cancelled()).collect()
    }

    /// Issue 18, A6: 2,750 half messages kept the members' connections out.
    #[test]
    fn strangers_make_room_for_one_another_and_take_no_members_place() {
        let places = Places::new(3, 4);
        let member = places.enter();
        assert!(member.place().heard(Some(7)));
        let strangers: Vec<Entered> = (0..3).map(|_| places.enter()).collect();
        assert!(strangers[0].place().heard(None), "it brought a message");
        let more: Vec<Entered> = (0..2).map(|_| places.enter()).collect();
        assert_eq!(are_gone(&strangers), [false, true, true], "those that brought nothing go first");
        let flood: Vec<Entered> = (0..3_000).map(|_| places.enter()).collect();
        assert!(are_gone(&strangers).iter().chain(&are_gone(&more)).all(|gone| *gone));
        assert!(!member.gone.is_cancelled() && member.place().heard(Some(7)));
        assert_eq!(are_gone(&flood[2_997..]), [false; 3]);
        assert!(!flood[0].place().heard(Some(8)), "it is too late");
        drop((member, strangers, more, flood));
        let taken = places.0.taken.lock();
        assert!(taken.strangers.is_empty() && taken.members.is_empty());
    }

    /// A burst of connections must not end those that had no time to say anything.
    #[tokio::test(start_paused = true)]
    async fn each_has_time_for_its_first_message() {
        let places = Places::new(2, 2);
        let began = Instant::now();
        let first = places.enter();
        places.room().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "there is a place");
        let second = places.enter();
        let not_served = timeout(MAX_GRACE * 4, places.room()).await;
        assert!(not_served.is_err(), "the first was not served yet");
        let began = Instant::now();
        first.serve();
        second.serve();
        tokio::time::advance(Duration::from_millis(10)).await;
        assert!(first.place().heard(None));
        places.room().await;
        assert_eq!(began.elapsed(), MIN_GRACE, "the second has shown nothing for so long");
        assert_eq!(*second.place().0.standing.lock(), Standing::Stranger(2));
        let third = places.enter();
        assert_eq!(are_gone(&[first, second, third]), [false, true, false]);
    }

    #[test]
    fn few_places_take_as_many_connections_a_second() {
        for (places, ms) in [(1, 25), (128, 31), (256, 62), (1_024, 250), (4_096, 250)] {
            assert_eq!(grace(places).as_millis(), ms, "{places}");
        }
    }

    #[test]
    fn each_member_has_a_share() {
        let places = Places::new(100, 4);
        let enter = |member: u64| {
            let entered = places.enter();
            let stays = entered.place().heard(Some(member));
            (entered, stays)
        };
        let first: Vec<_> = (0..6).map(|_| enter(1)).collect();
        assert_eq!(first.iter().map(|(_, stays)| *stays).collect::<Vec<_>>(), [true, true, true, true, false, false]);
        assert!(first[0].0.place().heard(Some(1)), "it is used");
        let second: Vec<_> = (0..4).map(|_| enter(2)).collect();
        assert_eq!(second.iter().map(|(_, stays)| *stays).collect::<Vec<_>>(), [true, true, false, false]);
        let gone: Vec<bool> = first.iter().map(|(one, _)| one.gone.is_cancelled()).collect();
        assert_eq!(gone, [false, true, true, false, false, false], "what was not used for longest");
        assert!(!first[1].0.place().heard(Some(1)));
        assert!(!enter(1).1 && second[0].0.place().heard(Some(2)));
        drop((first, second));
        let taken = places.0.taken.lock();
        assert!(taken.members.is_empty() && taken.strangers.is_empty());
    }
}
