//! The cells that are measured, and how a contestant sees them.

use std::fmt;

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Op {
    Put,
    /// Answered from the asked node's own state; etcd calls it serializable.
    GetNone,
    GetLinearizable,
    /// 90 % linearizable gets, 10 % puts.
    Mix,
}

impl Op {
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::GetNone => "get none",
            Self::GetLinearizable => "get linearizable",
            Self::Mix => "90 % get linearizable, 10 % put",
        }
    }

    pub fn is_get(self) -> bool {
        matches!(self, Self::GetNone | Self::GetLinearizable)
    }

    /// Puts in 100 requests.
    pub fn puts(self) -> u64 {
        match self {
            Self::Put => 100,
            Self::GetNone | Self::GetLinearizable => 0,
            Self::Mix => 10,
        }
    }
}

/// How gets find a contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum State {
    /// It has been written to, and nothing since.
    AsFound,
    /// It has been written to, and all that writes leave behind in memory is gone.
    Settled,
}

impl State {
    pub const ALL: [Self; 2] = [Self::AsFound, Self::Settled];

    pub fn name(self) -> &'static str {
        match self {
            Self::AsFound => "as found",
            Self::Settled => "settled",
        }
    }
}

/// The node that clients are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Asked {
    Leader,
    Follower,
    /// Clients are spread evenly over all nodes.
    Spread,
}

impl Asked {
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Spread => "spread",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Kind {
    Hraftd,
    /// Another binary of hraftd: `--old`.
    Old,
    /// The binary that is measured, over HTTP/2: `--channels` connections. Only where it is named.
    Http2,
    /// The newest etcd that was found.
    Etcd,
    /// etcd 3.4, as Debian has it.
    Etcd34,
    /// One node, durable.
    Redis,
    /// One node without consensus and without a disk.
    Ceiling,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Hraftd, Self::Http2, Self::Old, Self::Etcd, Self::Etcd34, Self::Redis, Self::Ceiling];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hraftd => "hraftd",
            Self::Http2 => "http2",
            Self::Old => "old",
            Self::Etcd => "etcd",
            Self::Etcd34 => "etcd34",
            Self::Redis => "redis",
            Self::Ceiling => "ceiling",
        }
    }

    pub fn has_one_node(self) -> bool {
        matches!(self, Self::Redis | Self::Ceiling)
    }

    /// The cell that stands for `cell`. A contestant of one node has no follower, one way to read, and nothing to settle, so
    /// one result stands for several cells.
    pub fn own_cell(self, cell: Cell) -> Cell {
        match (self.has_one_node(), cell.op.is_get()) {
            (false, _) => cell,
            (true, false) => Cell { asked: Asked::Leader, ..cell },
            (true, true) => Cell { op: Op::GetLinearizable, state: State::Settled, asked: Asked::Leader, ..cell },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    pub op: Op,
    /// Always [`State::AsFound`] unless the operation is a get.
    pub state: State,
    pub asked: Asked,
    pub connections: usize,
    /// Bytes of a value.
    pub size: usize,
}

impl Cell {
    /// The operation, and for gets the state.
    pub fn title(self) -> String {
        if self.op.is_get() { format!("{}, {}", self.op.name(), self.state.name()) } else { self.op.name().to_owned() }
    }

    /// Whether two cells belong to one block of the table.
    pub fn same_block(self, other: Self) -> bool {
        (self.op, self.state, self.size) == (other.op, other.state, other.size)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} B at the {}, {} connections", self.title(), self.size, self.asked.name(), self.connections)
    }
}
