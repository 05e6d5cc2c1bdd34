//! What is measured: the cells, and how a contestant sees them.

use std::fmt;

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Op {
    Put,
    /// From the asked node's own state; etcd calls it serializable.
    GetNone,
    GetLinearizable,
    /// 90 % linearizable gets, 10 % puts.
    Mix,
}

impl Op {
    pub const ALL: [Self; 4] = [Self::Put, Self::GetNone, Self::GetLinearizable, Self::Mix];

    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::GetNone => "get none",
            Self::GetLinearizable => "get linearizable",
            Self::Mix => "90 % get linearizable, 10 % put",
        }
    }

    /// Of 100 requests.
    pub fn puts(self) -> u64 {
        match self {
            Self::Put => 100,
            Self::GetNone | Self::GetLinearizable => 0,
            Self::Mix => 10,
        }
    }
}

/// Which node the clients are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Asked {
    Leader,
    Follower,
    /// As many clients at each node.
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
    Etcd,
    Ceiling,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Hraftd, Self::Etcd, Self::Ceiling];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hraftd => "hraftd",
            Self::Etcd => "etcd",
            Self::Ceiling => "ceiling",
        }
    }

    /// The ceiling has one node and one way to read: its result stands for several cells.
    pub fn own_cell(self, cell: Cell) -> Cell {
        match (self, cell.op) {
            (Self::Ceiling, Op::GetNone) => Cell { op: Op::GetLinearizable, asked: Asked::Leader, ..cell },
            (Self::Ceiling, _) => Cell { asked: Asked::Leader, ..cell },
            _ => cell,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    pub op: Op,
    pub asked: Asked,
    pub connections: usize,
    pub size: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} B at the {}, {} connections",
            self.op.name(),
            self.size,
            self.asked.name(),
            self.connections
        )
    }
}
