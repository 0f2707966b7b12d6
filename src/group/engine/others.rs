//! What comes from other peers.
use super::*;
use crate::wire::group::GroupMessage;

impl Engine {
    pub(super) fn peers_changed(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let names: Vec<GroupName> = self.groups.keys().cloned().collect();
        for name in names {
            self.with(now, outputs, &name, |dispense, ctx, _| dispense.peers_changed(ctx));
        }
    }

    /// Another peer says something about a group.
    pub(super) fn heard(&mut self, now: Now, from: PeerId, message: GroupMessage, outputs: &mut Vec<Output>) {
        let name = match &message {
            GroupMessage::Leased { ticket, .. } | GroupMessage::Leases { ticket, .. } => {
                self.desk.told.get(ticket).cloned()
            }
            GroupMessage::Demand { group, .. }
            | GroupMessage::NotMine { group, .. }
            | GroupMessage::Offer { group, .. }
            | GroupMessage::Lease { group, .. }
            | GroupMessage::Return { group, .. }
            | GroupMessage::Nack { group, .. }
            | GroupMessage::Extend { group, .. }
            | GroupMessage::Acked { group, .. } => Some(group.clone()),
        };
        let Some(name) = name.filter(|name| self.early.is_none() && self.fold.group(name).is_some()) else {
            return;
        };
        if let GroupMessage::NotMine { logs, .. } = &message {
            let mut is_news = false;
            for log in logs {
                is_news |= self.net.refuse(now.mono_ms, *log, from);
            }
            if is_news {
                self.peers_changed(now, outputs);
            }
        }
        let asks = matches!(message, GroupMessage::Demand { .. } | GroupMessage::Lease { .. });
        if asks && !self.groups.contains_key(&name) {
            self.groups.insert(name.clone(), Dispense::new(name.clone()));
        }
        self.with(now, outputs, &name, |dispense, ctx, group| {
            if let Some(group) = group {
                dispense.told(ctx, &group, from, message);
            }
        });
    }
}
