//! What a disk refuses, and what a system still has to write when its power fails.

use super::{Faults, LASTS_MS};
use crate::sim::cluster::Down;
use crate::sim::world;

impl Faults {
    /// The process dies, and is started again on what its system has not written yet; then the power fails.
    pub(super) async fn killed_before_power_loss(&mut self, port: u16) {
        // Something is under way.
        world::set_flush_ms(port, (5, 5 + world::below(60)));
        self.wait(100).await;
        self.cluster.down(port, Down::Killed);
        self.wait(200).await;
        self.cluster.up(port);
        self.wait(600).await;
        self.cluster.down(port, Down::PowerLoss);
        self.wait(LASTS_MS).await;
        self.cluster.up(port);
    }

    /// A flush fails once and what it was to write is lost, though reads still show it. The node ends, and is started again
    /// on what its system takes for written; then the power may fail.
    pub(super) async fn failed_sync(&mut self, port: u16) {
        let Some(process) = self.cluster.process(port) else { return };
        process.may_end();
        process.disk.fail_next_sync();
        self.wait(LASTS_MS).await;
        self.cluster.note_failures();
        self.cluster.down(port, Down::Killed);
        self.cluster.up(port);
        self.wait(600).await;
        if world::chance(500) {
            self.cluster.down(port, Down::PowerLoss);
            self.wait(LASTS_MS).await;
            self.cluster.up(port);
        }
    }

    /// There is no space for a while: the node ends, and is started again while there is none, and when there is.
    pub(super) async fn no_space(&mut self, port: u16) {
        let Some(process) = self.cluster.process(port) else { return };
        process.may_end();
        process.disk.set_full(true);
        self.wait(LASTS_MS).await;
        self.cluster.note_failures();
        self.cluster.down(port, Down::Killed);
        if world::chance(300) {
            self.cluster.meddle(port);
            self.cluster.up(port);
            self.wait(500).await;
            self.cluster.down(port, Down::Killed);
        }
        self.cluster.set_full(port, false);
        self.cluster.up(port);
    }
}
