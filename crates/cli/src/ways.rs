//! How packets go to the peers of a node that is in no swarm: said whenever it changes, so that no
//! relay and no loss of a peer goes unnoticed.

use std::collections::BTreeMap;

use shoal_node::{Node, NodeId};

use crate::failure::Failure;
use crate::output;
use crate::relays::way;

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    known: BTreeMap<NodeId, Option<bool>>,
}

impl Ways {
    /// Looks, and says what has changed.
    pub(crate) fn look(&mut self, node: &Node) -> Result<(), Failure> {
        for (peer, way) in self.changed(&node.ways()?) {
            output::note(&format!("{peer} is {way}"));
        }
        Ok(())
    }

    fn changed(&mut self, now: &[(NodeId, bool)]) -> Vec<(NodeId, &'static str)> {
        let now: BTreeMap<NodeId, bool> = now.iter().copied().collect();
        let mut changed = Vec::new();
        for (peer, known) in &mut self.known {
            let is_relayed = now.get(peer).copied();
            if std::mem::replace(known, is_relayed) != is_relayed {
                changed.push((*peer, way(is_relayed).unwrap_or("no longer connected")));
            }
        }
        for (peer, is_relayed) in now {
            self.known.entry(peer).or_insert_with(|| {
                changed.push((peer, way(Some(is_relayed)).unwrap_or_default()));
                Some(is_relayed)
            });
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_said_once() {
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut ways = Ways::default();
        assert_eq!(ways.changed(&[(a, true)]), [(a, "relayed")]);
        assert_eq!(ways.changed(&[(a, true)]), []);
        assert_eq!(ways.changed(&[(a, false), (b, false)]), [(a, "direct"), (b, "direct")]);
        assert_eq!(ways.changed(&[(b, false)]), [(a, "no longer connected")]);
        assert_eq!(ways.changed(&[(a, true), (b, false)]), [(a, "relayed")]);
    }
}
