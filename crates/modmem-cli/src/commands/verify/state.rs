//! The one machine state that all code had to fit.

use modmem::RunAddr;
use modmem::verify::Variable;
use modmem_linux::verify::{StateFact, Verification};
use serde::Serialize;

use super::atlas::Atlas;
use crate::features;
use crate::output::json::Address;

/// What decides about code on this machine.
#[derive(Debug, Serialize)]
pub(super) struct State {
    /// Whether one CPU runs alone, and lock prefixes are out; null if no module has any.
    pub(super) one_cpu: Option<Fact<bool>>,
    /// The function that returns jump to; null if they return themselves.
    pub(super) return_thunk: Option<Fact<Place>>,
    /// Where the depth of calls is counted; null if it is not.
    pub(super) call_depth: Option<Fact<Address>>,
    pub(super) features: Vec<Feature>,
    pub(super) static_keys: Vec<Key<bool>>,
    pub(super) static_calls: Vec<Key<Option<Place>>>,
    pub(super) paravirt_calls: Vec<Key<Option<Place>>>,
    /// Functions whose calls are counted by code before them.
    pub(super) counted_calls: Counted,
}

/// A value and what speaks for it.
#[derive(Debug, Serialize)]
pub(super) struct Fact<T> {
    pub(super) value: T,
    /// Whether the kernel's own memory says so.
    pub(super) proven: bool,
    /// Places in code that show it.
    pub(super) sites: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Feature {
    /// As the kernel numbers those of its kind; null for what has no number.
    pub(super) number: Option<u32>,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) on: Fact<bool>,
}

/// Something at an address that has a value.
#[derive(Debug, Serialize)]
pub(super) struct Key<T> {
    #[serde(flatten)]
    pub(super) place: Place,
    #[serde(flatten)]
    pub(super) fact: Fact<T>,
}

#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) symbol: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Counted {
    pub(super) on: usize,
    pub(super) off: usize,
}

impl State {
    pub(super) fn of(atlas: &Atlas<'_>, verification: &Verification) -> State {
        let mut state = State {
            one_cpu: None,
            return_thunk: None,
            call_depth: None,
            features: Vec::new(),
            static_keys: Vec::new(),
            static_calls: Vec::new(),
            paravirt_calls: Vec::new(),
            counted_calls: Counted::default(),
        };
        let place =
            |address: u64| Place { address: Address(RunAddr(address)), symbol: atlas.global(address) };
        let function = |value: u64| (value != 0).then(|| place(value));
        for fact in &verification.state {
            match fact.variable {
                Variable::OneCpu => state.one_cpu = Some(fact_of(fact, fact.value != 0)),
                Variable::ReturnThunk => state.return_thunk = Some(fact_of(fact, place(fact.value))),
                Variable::CallDepth => {
                    state.call_depth = Some(fact_of(fact, Address(RunAddr(fact.value))));
                }
                Variable::Key(key) => {
                    state.static_keys.push(Key { place: place(key.0), fact: fact_of(fact, fact.value != 0) })
                }
                Variable::StaticCall(key) => state
                    .static_calls
                    .push(Key { place: place(key.0), fact: fact_of(fact, function(fact.value)) }),
                Variable::ParavirtCall(slot) => state
                    .paravirt_calls
                    .push(Key { place: place(slot.0), fact: fact_of(fact, function(fact.value)) }),
                Variable::CountedCall(_) if fact.value != 0 => state.counted_calls.on += 1,
                Variable::CountedCall(_) => state.counted_calls.off += 1,
                Variable::Feature(_)
                | Variable::Capability(_)
                | Variable::Facility(_)
                | Variable::MachineFeature(_)
                | Variable::LimitedPrediction
                | Variable::RelocatedLowcore
                | Variable::SequentialFetch => state.features.push(Feature {
                    number: features::number(fact.variable),
                    name: features::shown(fact.variable, &verification.profile),
                    on: fact_of(fact, fact.value != 0),
                }),
            }
        }
        state
    }
}

fn fact_of<T>(fact: &StateFact, value: T) -> Fact<T> {
    Fact { value, proven: fact.proven, sites: fact.sites }
}
