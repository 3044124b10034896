//! Tasks under a virtual clock: one thread, one order, no real time. What drives it is a queue of (millisecond,
//! sequence); a task is the future of a machine's boot, of a driver's step, of an operator.
//!
//! A crash, a power cut, a suspended host: the tasks of an [`Owner`] are dropped where they stand, or not run for a while.

use std::{
    cell::{Cell, RefCell, RefMut},
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{tool::Tool, world::World};

pub type TaskId = u64;

/// Whose task it is: what dies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Nobody's: operators, and whatever befalls the world.
    World,
    /// A machine while it has power, by number.
    Machine(usize),
    /// Its etcd.
    Etcd(usize),
    /// A process of the tool.
    Process(u32),
}

/// What tasks wait for besides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A claim or a report of this machine came to this process.
    Desk(u32, usize),
    /// Power, boot or system of a machine changed.
    Machine(usize),
    /// A driver of this process came home.
    Home(u32),
    /// This process ended.
    Ended(u32),
    /// Drivers of this process were let go, or kept back.
    Leave(u32),
    /// A request that has left was answered.
    Answer(u64),
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Queue {
    timers: BinaryHeap<Reverse<(u64, u64, TaskId)>>,
    ready: VecDeque<TaskId>,
    tasks: BTreeMap<TaskId, (Owner, Option<Task>)>,
    waiting: BTreeMap<Topic, BTreeSet<TaskId>>,
    /// Owners that do not run until then.
    suspended: BTreeMap<Owner, (u64, u64)>,
    sequence: u64,
}

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static SLEPT: Cell<u64> = const { Cell::new(0) };
}

/// Virtual time of the simulation that runs on this thread: a clock for what takes a function and no value.
pub fn virtual_ms() -> u64 {
    NOW.get()
}

/// The same, but for the time that hosts slept: a clock that is wrong for leases.
pub fn awake_ms() -> u64 {
    NOW.get() - SLEPT.get()
}

pub struct Sim {
    now: Cell<u64>,
    current: Cell<TaskId>,
    queue: RefCell<Queue>,
    world: RefCell<World>,
    /// Living processes of the tool, by number.
    tools: RefCell<BTreeMap<u32, Rc<Tool>>>,
}

pub type Ctx = Rc<Sim>;

impl Sim {
    pub fn new(world: World) -> Ctx {
        NOW.set(0);
        SLEPT.set(0);
        Rc::new(Sim {
            now: Cell::new(0),
            current: Cell::new(0),
            queue: RefCell::default(),
            world: RefCell::new(world),
            tools: RefCell::default(),
        })
    }

    pub fn register(&self, tool: Rc<Tool>) {
        self.tools.borrow_mut().insert(tool.process, tool);
    }
    pub fn unregister(&self, process: u32) {
        let gone = self.tools.borrow_mut().remove(&process);
        drop(gone);
    }
    fn awake(&self, tool: &Tool) -> bool {
        let queue = self.queue.borrow();
        queue.suspended.get(&Owner::Process(tool.process)).is_none_or(|(_, until)| *until <= self.now.get())
    }
    /// All that serve and whose host does not sleep.
    pub fn tools(&self) -> Vec<Rc<Tool>> {
        self.tools.borrow().values().filter(|t| t.serving.get() && self.awake(t)).cloned().collect()
    }
    /// The one that listens at this host's address: the first that has opened its servers there.
    pub fn tool_at(&self, host: &str) -> Option<Rc<Tool>> {
        self.tools.borrow().values().find(|t| t.host == host && t.serving.get() && self.awake(t)).cloned()
    }

    /// Virtual milliseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Never held across an await.
    pub fn world(&self) -> RefMut<'_, World> {
        let mut world = self.world.borrow_mut();
        world.now = self.now.get();
        world
    }

    /// A number that is given once.
    pub fn ticket(&self) -> u64 {
        let mut queue = self.queue.borrow_mut();
        queue.sequence += 1;
        queue.sequence
    }

    pub fn spawn(self: &Rc<Self>, owner: Owner, future: impl Future<Output = ()> + 'static) -> TaskId {
        let mut queue = self.queue.borrow_mut();
        queue.sequence += 1;
        let id = queue.sequence;
        queue.tasks.insert(id, (owner, Some(Box::pin(future))));
        queue.ready.push_back(id);
        id
    }

    /// Drops every task of the owner where it stands.
    pub fn kill(&self, owner: Owner) {
        let dead: Vec<Option<Task>> = {
            let mut queue = self.queue.borrow_mut();
            let ids: Vec<TaskId> = queue.tasks.iter().filter(|(_, (o, _))| *o == owner).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| queue.tasks.remove(id)).map(|(_, task)| task).collect()
        };
        // Outside of the borrow: what a future drops may look at the queue.
        drop(dead);
    }

    /// The world is over: tasks hold it, and it holds them.
    pub fn end(&self) {
        let tasks = std::mem::take(&mut self.queue.borrow_mut().tasks);
        drop(tasks);
        let tools = std::mem::take(&mut *self.tools.borrow_mut());
        drop(tools);
    }

    pub fn cancel(&self, id: TaskId) {
        let task = self.queue.borrow_mut().tasks.remove(&id);
        drop(task);
    }

    /// Its tasks are not run before `until`; their timers wait with them.
    pub fn suspend(&self, owner: Owner, until: u64) {
        self.queue.borrow_mut().suspended.insert(owner, (self.now.get(), until));
    }

    pub fn notify(&self, topic: Topic) {
        let mut queue = self.queue.borrow_mut();
        if let Some(ids) = queue.waiting.remove(&topic) {
            queue.ready.extend(ids);
        }
    }

    fn timer(&self, at: u64) {
        let mut queue = self.queue.borrow_mut();
        queue.sequence += 1;
        let entry = (at, queue.sequence, self.current.get());
        queue.timers.push(Reverse(entry));
    }

    fn wait_for(&self, topic: Topic) {
        self.queue.borrow_mut().waiting.entry(topic).or_default().insert(self.current.get());
    }

    /// Runs until nothing is left to happen, `deadline` has come, or `stop` says so.
    pub fn run(&self, deadline: u64, mut stop: impl FnMut() -> bool) {
        loop {
            while let Some(id) = self.next_ready() {
                self.poll(id);
                if stop() {
                    return;
                }
            }
            let mut queue = self.queue.borrow_mut();
            match queue.timers.pop() {
                Some(Reverse((at, _, id))) if at <= deadline => {
                    if queue.tasks.contains_key(&id) {
                        self.advance(at);
                        queue.ready.push_back(id);
                    }
                }
                Some(later) => {
                    queue.timers.push(later);
                    self.advance(deadline);
                    return;
                }
                None => return,
            }
        }
    }

    fn advance(&self, at: u64) {
        self.now.set(at.max(self.now.get()));
        NOW.set(self.now.get());
        self.world.borrow().durable.set_time(self.now.get());
    }

    fn next_ready(&self) -> Option<TaskId> {
        let mut queue = self.queue.borrow_mut();
        loop {
            let id = queue.ready.pop_front()?;
            let Some((owner, _)) = queue.tasks.get(&id) else { continue };
            let owner = *owner;
            match queue.suspended.get(&owner).copied() {
                Some((_, until)) if until > self.now.get() => {
                    queue.sequence += 1;
                    let sequence = queue.sequence;
                    queue.timers.push(Reverse((until, sequence, id)));
                }
                Some((since, until)) => {
                    SLEPT.set(SLEPT.get() + (until - since));
                    queue.suspended.remove(&owner);
                    return Some(id);
                }
                None => return Some(id),
            }
        }
    }

    fn poll(&self, id: TaskId) {
        let Some(mut task) = self.queue.borrow_mut().tasks.get_mut(&id).and_then(|(_, task)| task.take()) else {
            return;
        };
        self.current.set(id);
        let done = task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let mut queue = self.queue.borrow_mut();
        if done {
            queue.tasks.remove(&id);
        } else if let Some((_, place)) = queue.tasks.get_mut(&id) {
            *place = Some(task);
            return;
        }
        // It ended, or was killed while it ran.
        drop(queue);
        drop(task);
    }
}

/// Until virtual time has come.
pub struct Sleep {
    sim: Ctx,
    at: u64,
    set: bool,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.sim.now() >= self.at {
            return Poll::Ready(());
        }
        if !self.set {
            self.set = true;
            self.sim.timer(self.at);
        }
        Poll::Pending
    }
}

pub fn sleep(sim: &Ctx, ms: u64) -> Sleep {
    Sleep { sim: Rc::clone(sim), at: sim.now() + ms, set: false }
}

/// Until `look` says something; it is asked again when one of the topics is told of.
pub struct Until<F> {
    sim: Ctx,
    topic: Topic,
    look: F,
}

impl<F, T> Future for Until<F>
where
    F: FnMut() -> Option<T> + Unpin,
{
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = (self.look)() {
            return Poll::Ready(value);
        }
        self.sim.wait_for(self.topic);
        Poll::Pending
    }
}

pub fn until<T, F: FnMut() -> Option<T> + Unpin>(sim: &Ctx, topic: Topic, look: F) -> Until<F> {
    Until { sim: Rc::clone(sim), topic, look }
}

/// What never comes.
pub async fn never<T>() -> T {
    std::future::pending().await
}

struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Option<F::Output>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        Pin::new(&mut self.sleep).poll(context).map(|()| None)
    }
}

/// `None`: the time went by first, and the future was dropped.
pub async fn timeout<F: Future>(sim: &Ctx, ms: u64, future: F) -> Option<F::Output> {
    Timeout { future: Box::pin(future), sleep: sleep(sim, ms) }.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::world::World;

    #[test]
    fn time_is_virtual_and_the_order_is_fixed() {
        let sim = Sim::new(World::empty(1));
        let seen: Rc<RefCell<Vec<(u64, u32)>>> = Rc::default();
        for (number, ms) in [(1, 500), (2, 100), (3, 500)] {
            let (ctx, out) = (Rc::clone(&sim), Rc::clone(&seen));
            sim.spawn(Owner::World, async move {
                sleep(&ctx, ms).await;
                out.borrow_mut().push((ctx.now(), number));
            });
        }
        sim.run(10_000, || false);
        assert_eq!(*seen.borrow(), [(100, 2), (500, 1), (500, 3)]);
    }

    #[test]
    fn a_dead_owner_does_nothing_more_and_a_suspended_one_later() {
        let sim = Sim::new(World::empty(1));
        let seen: Rc<RefCell<Vec<u64>>> = Rc::default();
        for pid in [1, 2] {
            let (ctx, out) = (Rc::clone(&sim), Rc::clone(&seen));
            sim.spawn(Owner::Process(pid), async move {
                let late = timeout(&ctx, 1_000, never::<()>()).await;
                assert!(late.is_none());
                out.borrow_mut().push(ctx.now());
            });
        }
        let ctx = Rc::clone(&sim);
        sim.spawn(Owner::World, async move {
            sleep(&ctx, 10).await;
            ctx.kill(Owner::Process(1));
            ctx.suspend(Owner::Process(2), 9_000);
        });
        sim.run(10_000, || false);
        assert_eq!(*seen.borrow(), [9_000]);
    }
}
