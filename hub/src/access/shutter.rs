//! A door that a test shuts while the hub behind it runs, and that remembers what it was asked.

use super::door::Judge;
use super::{Action, Decision, Policy, Refusal, Request, decide};
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub struct Shutter {
    shut: AtomicBool,
    asked: Mutex<Vec<Action>>,
}

impl Shutter {
    /// What nothing but this door answers.
    pub const CODE: &str = "SHUT";

    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        self.asked();
    }

    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.asked();
    }

    /// Every action that was asked for since the last time.
    pub fn asked(&self) -> Vec<Action> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub fn judge(self: &Arc<Self>) -> Judge {
        let shutter = self.clone();
        Arc::new(move |policy: &Policy, request: &Request, now: WallTime| {
            shutter.asked.lock().unwrap().push(request.action);
            match shutter.shut.load(Ordering::SeqCst) {
                true => Decision::Refuse(Refusal::new(Kind::Denied, Self::CODE, "the door is shut")),
                false => decide(policy, request, now),
            }
        })
    }
}
