//! How far apart nodes are: measured links, and places in a space of round trips for the others.

use shoal_wire::{Coordinate, Descriptor, Link, NodeId};

use crate::limits;

/// How much of an error one sample corrects at most (Vivaldi's constant).
const STEP: f64 = 0.25;
/// Places stay within an hour of the origin, so that hostile ones cannot overflow anything.
const PLACE_US_MAX: f64 = 2.0e9;

/// The place of this node, moved a little by each measured round trip.
#[derive(Clone, Copy, Debug)]
pub struct Coordinates {
    place: [f64; 3],
    height: f64,
    error: f64,
}

impl Default for Coordinates {
    fn default() -> Self {
        Self { place: [0.0; 3], height: 1000.0, error: 1.0 }
    }
}

impl Coordinates {
    /// What a descriptor says. The error is relative, in millionths.
    #[must_use]
    pub fn publish(&self) -> Coordinate {
        let axis = |value: f64| value.clamp(-PLACE_US_MAX, PLACE_US_MAX) as i32;
        Coordinate {
            x_us: axis(self.place[0]),
            y_us: axis(self.place[1]),
            z_us: axis(self.place[2]),
            height_us: self.height.clamp(0.0, PLACE_US_MAX) as u32,
            error_us: (self.error * 1e6) as u32,
        }
    }

    /// Learns from a round trip to a peer at a place.
    pub fn learn(&mut self, peer: &Coordinate, rtt_us: u32) {
        let peer_error = (f64::from(peer.error_us) / 1e6).clamp(0.0, 1.0);
        let rtt = f64::from(rtt_us).max(1.0);
        let other = [peer.x_us, peer.y_us, peer.z_us].map(f64::from);
        let mut direction: [f64; 3] = std::array::from_fn(|axis| self.place[axis] - other[axis]);
        let mut flat = norm(direction);
        if flat < 1.0 {
            // Two nodes at one place have to move apart; the direction does not matter.
            direction = [1.0, f64::from(rtt_us % 7) - 3.0, f64::from(rtt_us % 5) - 2.0];
            flat = norm(direction);
        }
        let distance = norm(std::array::from_fn(|axis| self.place[axis] - other[axis]))
            + self.height
            + f64::from(peer.height_us);
        let weight = self.error / (self.error + peer_error).max(1e-6);
        let sample = ((distance - rtt).abs() / rtt).min(1.0);
        self.error = (sample * STEP * weight + self.error * (1.0 - STEP * weight)).clamp(0.01, 1.0);
        let force = STEP * weight * (rtt - distance);
        for (place, part) in self.place.iter_mut().zip(direction) {
            *place = (*place + force * part / flat).clamp(-PLACE_US_MAX, PLACE_US_MAX);
        }
        let share = self.height / distance.max(1.0);
        self.height = (self.height + force * share).clamp(100.0, PLACE_US_MAX);
    }
}

fn norm(vector: [f64; 3]) -> f64 {
    vector.iter().map(|part| part * part).sum::<f64>().sqrt()
}

/// One way from one node to another, in microseconds: half of the measured round trip, else the
/// distance of their places, else a guess.
#[must_use]
pub fn distance_us(from: &Descriptor, to: &Descriptor) -> u32 {
    if from.node == to.node {
        return 0;
    }
    measured(from, to).map_or_else(|| apart_us(&from.coordinate, &to.coordinate), way_us)
}

/// The same without looking at what the other one measured.
pub(crate) fn rough_us(from: &Descriptor, to: NodeId, place: &Coordinate) -> u32 {
    if from.node == to {
        return 0;
    }
    link_to(from, to).map_or_else(|| apart_us(&from.coordinate, place), way_us)
}

fn way_us(link: &Link) -> u32 {
    let relay = if link.is_relayed { limits::RELAY_US } else { 0 };
    (link.rtt_us / 2).saturating_add(relay)
}

fn apart_us(a: &Coordinate, b: &Coordinate) -> u32 {
    if a.height_us == 0 || b.height_us == 0 {
        return limits::UNMEASURED_US;
    }
    let axes = |c: &Coordinate| [c.x_us, c.y_us, c.z_us].map(f64::from);
    let (from, to) = (axes(a), axes(b));
    let flat = norm(std::array::from_fn(|axis| from[axis] - to[axis]));
    let heights = f64::from(a.height_us) + f64::from(b.height_us);
    ((flat + heights) / 2.0).min(f64::from(u32::MAX)) as u32
}

/// Whether packets between two nodes go over a relay, if one of them is connected to the other and
/// says so. A node and itself need no way.
pub(crate) fn is_relayed(from: &Descriptor, to: &Descriptor) -> Option<bool> {
    measured(from, to).map(|link| link.is_relayed)
}

/// What one of two nodes says about the link between them, the first one if both do.
fn measured<'a>(from: &'a Descriptor, to: &'a Descriptor) -> Option<&'a Link> {
    link_to(from, to.node).or_else(|| link_to(to, from.node))
}

fn link_to(from: &Descriptor, to: NodeId) -> Option<&Link> {
    let index = from.links.binary_search_by_key(&to, |link| link.peer).ok()?;
    Some(&from.links[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_to_predict_round_trips() {
        // Four nodes on a line, 10 ms of round trip between neighbours, 2 ms at each end.
        let rtt = |a: usize, b: usize| 10_000 * a.abs_diff(b) as u32 + 4000;
        let mut places = [Coordinates::default(); 4];
        for round in 0..4000 {
            let (a, b) = (round % 4, (round / 4 + round % 4 + 1 + round % 2) % 4);
            if a != b {
                let peer = places[b].publish();
                places[a].learn(&peer, rtt(a, b));
            }
        }
        for a in 0..4 {
            for b in 0..4 {
                let (p, q) = (places[a].publish(), places[b].publish());
                let axes = |c: &Coordinate| [c.x_us, c.y_us, c.z_us].map(f64::from);
                let (p_axes, q_axes) = (axes(&p), axes(&q));
                let flat = norm(std::array::from_fn(|axis| p_axes[axis] - q_axes[axis]));
                let predicted = flat + f64::from(p.height_us) + f64::from(q.height_us);
                let expected = f64::from(rtt(a, b));
                assert!(a == b || (predicted - expected).abs() < 0.3 * expected, "{a} {b}");
            }
        }
    }
}
