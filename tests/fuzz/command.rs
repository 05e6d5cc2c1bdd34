//! Commands as they come from a log or a peer: whatever is decoded can be applied, by all replicas alike.

use bolero::check;

use crate::command::Command;
use crate::kv::{KvStore, weight};

/// Commands in postcard, one after the other, up to the first that is none.
fn commands(mut input: &[u8]) -> Vec<Command> {
    let mut commands = Vec::new();
    while let Ok((command, rest)) = postcard::take_from_bytes::<Command>(input)
        && rest.len() < input.len()
    {
        commands.push(command);
        input = rest;
    }
    commands
}

#[test]
fn what_is_decoded_is_applied() {
    check!(name = "commands").with_iterations(super::SOME).for_each(|input: &[u8]| {
        let commands = commands(input);
        let (mut one, mut other) = (KvStore::new(), KvStore::new());
        let mut events = Vec::new();
        for (command, index) in commands.iter().zip(1..) {
            let bytes = postcard::to_stdvec(command).expect("it was decoded");
            assert_eq!(postcard::from_bytes::<Command>(&bytes).as_ref(), Ok(command));
            let _ = (weight(command), command.to_string());
            let replies = [one.apply(index, command, &mut events), other.apply(index, command, &mut Vec::new())];
            assert_eq!(replies[0], replies[1], "{command:?}");
            let bytes = postcard::to_stdvec(&replies[0]).expect("every reply can be sent");
            assert_eq!(postcard::from_bytes(&bytes), Ok(replies[0].clone()), "{command:?}");
        }
        assert_eq!(one.digest(), other.digest());
        let positions: Vec<_> = events.iter().map(|event| (event.index, event.n)).collect();
        assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
        for (key, record) in one.iter() {
            assert!(one.get(key) == Some(record));
        }
        for (name, _) in one.locks() {
            assert!(one.lock(name).is_some());
        }
    });
}
