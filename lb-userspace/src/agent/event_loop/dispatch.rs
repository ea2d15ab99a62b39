//! What an event leads to: the agent's effects, and what comes of those.

use tokio::time::Instant;
use tracing::debug;

use super::EventLoop;
use crate::agent::state_machine::{Effect, Event};
use crate::host::syscall::trim_heap;
use crate::observe::Moment;
use crate::source::Reason;

impl EventLoop {
    /// Hands an event to the agent, does what it returns, and hands on what comes of that.
    pub(super) fn dispatch(&mut self, event: Event) {
        let (plans, started) = (self.agent.plans(), Instant::now());
        let of_everything = self.agent.effort().of_everything;
        let is_tick = matches!(event, Event::Tick);
        let mut effects = self.agent.on(event);
        if is_tick {
            self.observer.metrics().changes.planned(started.elapsed(), self.agent.effort().into());
        }
        while !effects.is_empty() {
            let events: Vec<Event> =
                effects.into_iter().filter_map(|effect| self.apply(effect)).collect();
            effects = events.into_iter().flat_map(|event| self.agent.on(event)).collect();
        }
        if is_tick {
            self.observer.planned(started.elapsed());
        }
        if self.agent.plans() > plans {
            self.observer.applied(Moment::now());
            self.health_checks.set(self.agent.health_checks().clone());
            if self.stale_udp.is_due() {
                self.destroy_stale_sockets();
            }
        }
        if self.agent.is_behind() {
            self.observer.behind(Moment::now());
        }
        let is_whole = self.agent.effort().of_everything > of_everything;
        if is_whole {
            // It takes as much memory as what is kept of it, and a list of all objects comes before most.
            trim_heap();
        }
        if is_tick {
            self.plan_timer.throttle(started.elapsed(), is_whole);
        }
    }

    fn apply(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::WakeIn(time) => {
                self.plan_timer.wake_in(time);
                self.maps.log_retry(time);
            }
            Effect::Write(operations) => {
                self.stale_udp.follow(&operations);
                let (done, result) = self.maps.write(&operations, &self.observer);
                return Some(Event::Written { done, result });
            }
            Effect::Ready => debug!("the first complete plan is in the kernel"),
            Effect::Warn(warning) => self.warn(Reason::NotHonoured, &warning),
        }
        None
    }
}
