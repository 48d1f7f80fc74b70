//! What is asked for: checked before anything is done about it.

use bitmesh_common::abi::Mac;

use super::change::{Asker, Change, Goal};
use super::{Gateway, Known, MAX_ACCOUNTS, MAX_CHANGES, MAX_CREDITS};
use crate::account::Money;
use crate::io::{Answer, Refusal, RequestId};
use crate::ledger::Credits;
use crate::record::{Credit, CreditId, CreditKind};
use crate::tariff::Tariff;
use crate::units::MilliSat;

impl Gateway {
    pub(super) fn grant(
        &mut self,
        request: RequestId,
        id: CreditId,
        mac: Mac,
        amount: MilliSat,
        tariff: Tariff,
    ) {
        let credit = Credit { id, mac, kind: CreditKind::Grant, amount };
        match self.check_credit(&credit, &tariff) {
            Ok(None) => {
                self.credits.insert(id, Known { mac, amount });
                let goal = Goal::Credit(mac, Money::Credit(credit), tariff);
                let change = Change::new(Asker::Request(request), goal);
                self.go_on(mac, change, self.moment());
            }
            Ok(Some(answer)) => self.reply(Asker::Request(request), Ok(answer)),
            Err(refusal) => self.reply(Asker::Request(request), Err(refusal)),
        }
    }

    pub(super) fn stop(&mut self, request: RequestId, mac: Mac) {
        let checked = match self.accounts.contains_key(&mac) {
            true => self.check_free(mac),
            false => Err(Refusal::NoAccount),
        };
        match checked {
            Ok(()) => {
                let change = Change::new(Asker::Request(request), Goal::Stop);
                self.go_on(mac, change, self.moment());
            }
            Err(refusal) => self.reply(Asker::Request(request), Err(refusal)),
        }
    }

    /// Whether this credit can be added; the answer, if it has been before.
    pub(super) fn check_credit(
        &self,
        credit: &Credit,
        tariff: &Tariff,
    ) -> Result<Option<Answer>, Refusal> {
        if credit.mac.is_group() || credit.mac == Mac::default() {
            return Err(Refusal::NotAStation);
        }
        if credit.amount == MilliSat(0) {
            return Err(Refusal::Amount);
        }
        tariff.check().map_err(|_| Refusal::Tariff)?;
        if let Some(known) = self.credits.get(&credit.id) {
            if (known.mac, known.amount) != (credit.mac, credit.amount) {
                return Err(Refusal::CreditReused);
            }
            self.check_free(credit.mac)?;
            return self.answer_again(credit.mac).map(Some);
        }
        self.check_free(credit.mac)?;
        let account = self.accounts.get(&credit.mac);
        let credits = account.map_or_else(Credits::default, |account| account.credits);
        credits.with(credit.kind, credit.amount).ok_or(Refusal::Amount)?;
        let no_place = account.is_none() && self.accounts_to_be() >= MAX_ACCOUNTS;
        if no_place || self.credits.len() >= MAX_CREDITS {
            return Err(Refusal::LedgerFull);
        }
        Ok(None)
    }

    /// Accounts, and those that are about to become one.
    pub(super) fn accounts_to_be(&self) -> usize {
        self.accounts.len() + self.changes.keys().filter(|mac| self.is_new(mac)).count()
    }

    fn is_new(&self, mac: &Mac) -> bool {
        !self.accounts.contains_key(mac)
    }

    /// Whether this account can be changed now.
    fn check_free(&self, mac: Mac) -> Result<(), Refusal> {
        if self.changes.contains_key(&mac) {
            Err(Refusal::Busy)
        } else if self.changes.len() >= MAX_CHANGES {
            Err(Refusal::Overloaded)
        } else {
            Ok(())
        }
    }

    /// What the first grant of a credit was told, with the balance of now.
    fn answer_again(&self, mac: Mac) -> Result<Answer, Refusal> {
        match self.accounts.get(&mac) {
            Some(account) if account.state.open && account.held.is_none() => Err(Refusal::NoRoom),
            Some(account) => Ok(Answer::Granted { balance: account.statement().balance }),
            None => Err(Refusal::NoAccount),
        }
    }
}
