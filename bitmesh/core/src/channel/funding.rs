//! From terms to an address, and from a raw transaction to a pinned outpoint.

use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::deserialize;
use bitcoin::{Address, Amount, OutPoint, Transaction, TxOut};

use super::error::{FundingError, KeyError, TermsError};
use super::keys::ChannelSecret;
use super::musig::Aggregate;
use super::script::FundingScript;
use super::terms::{Terms, is_legal_change};
use super::{DUST, Role};
use crate::units::MilliSat;

/// The longest raw transaction that is read: what fits into a standard one (400,000 weight).
pub const MAX_RAW_TX_BYTES: usize = 400_000;

/// A channel whose terms stand and whose address is known. Nothing is paid yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    terms: Terms,
    script: FundingScript,
    address: Address,
}

impl Opened {
    /// Checks the terms and builds the script tree.
    ///
    /// # Errors
    ///
    /// [`TermsError`] names the first term that can't stand.
    pub fn new(terms: Terms) -> Result<Self, TermsError> {
        terms.check()?;
        let script = FundingScript::new(&terms.payer_key, &terms.payee_key, terms.expiry_height)?;
        let address = script.address(terms.network)?;
        Ok(Self { terms, script, address })
    }

    /// What was agreed.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The script tree.
    #[must_use]
    pub fn script(&self) -> &FundingScript {
        &self.script
    }

    /// The address that the funding pays to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The funding as a descriptor without checksum; see [`FundingScript::descriptor`].
    #[must_use]
    pub fn descriptor(&self) -> String {
        let terms = &self.terms;
        self.script.descriptor(&terms.payer_key, &terms.payee_key, terms.expiry_height)
    }

    /// A URI that wallets open (BIP 21), asking for `amount`.
    #[must_use]
    pub fn uri(&self, amount: Amount) -> String {
        let bitcoin = amount.display_in(bitcoin::Denomination::Bitcoin);
        format!("bitcoin:{}?amount={bitcoin}&label=BitMesh", self.address)
    }

    /// Compares the address that the gateway shows with the one that the terms give. The payer
    /// does this before it shows or pays anything.
    ///
    /// # Errors
    ///
    /// [`FundingError::WrongAddress`] if it is another one, or none.
    pub fn check_address(&self, shown: &str) -> Result<(), FundingError> {
        let shown: Address<NetworkUnchecked> =
            shown.parse().map_err(|_| FundingError::WrongAddress)?;
        let same_network = shown.is_valid_for_network(self.terms.network);
        if same_network && shown.assume_checked().script_pubkey() == *self.script.script_pubkey() {
            Ok(())
        } else {
            Err(FundingError::WrongAddress)
        }
    }

    /// Finds the funding in a raw transaction (BIP 144 serialisation) and pins its outpoint: the
    /// first output to the address. Whether it is confirmed is the caller's to know.
    ///
    /// # Errors
    ///
    /// [`FundingError`] if it can't be read, does not pay, or pays too little or too much.
    pub fn fund(self, raw: &[u8]) -> Result<Funded, FundingError> {
        if raw.len() > MAX_RAW_TX_BYTES {
            return Err(FundingError::TooLong(raw.len()));
        }
        let tx: Transaction = deserialize(raw).map_err(|_| FundingError::Malformed)?;
        if tx.is_coinbase() {
            return Err(FundingError::Coinbase);
        }
        let script = self.script.script_pubkey();
        let vout = tx.output.iter().position(|output| output.script_pubkey == *script);
        let vout = vout.ok_or(FundingError::NoOutput)?;
        let capacity = tx.output.get(vout).ok_or(FundingError::NoOutput)?.value;
        let vout = u32::try_from(vout).map_err(|_| FundingError::Malformed)?;
        self.pinned(OutPoint::new(tx.compute_txid(), vout), capacity)
    }

    /// Takes up a channel whose outpoint was pinned before, from the disk.
    ///
    /// # Errors
    ///
    /// [`FundingError::Capacity`] if the capacity is outside of the terms.
    pub fn pinned(self, outpoint: OutPoint, capacity: Amount) -> Result<Funded, FundingError> {
        let (min, max) = (self.terms.min_capacity, self.terms.max_capacity);
        if capacity < min || capacity > max {
            return Err(FundingError::Capacity { got: capacity, min, max });
        }
        Ok(Funded { opened: self, outpoint, capacity })
    }

    pub(super) fn txout(&self, value: Amount) -> TxOut {
        TxOut { value, script_pubkey: self.script.script_pubkey().clone() }
    }

    pub(super) fn aggregate(&self) -> Result<Aggregate, KeyError> {
        self.script.aggregate(&self.terms.payer_key, &self.terms.payee_key)
    }

    /// Whether `secret` is the C or R of these terms.
    pub(super) fn check_secret(&self, role: Role, secret: &ChannelSecret) -> Result<(), KeyError> {
        let expected = match role {
            Role::Payer => self.terms.payer_key,
            Role::Payee => self.terms.payee_key,
        };
        if secret.public_key() == expected { Ok(()) } else { Err(KeyError::NotOurs) }
    }
}

/// A channel with its outpoint pinned: what every update and every close spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funded {
    opened: Opened,
    outpoint: OutPoint,
    capacity: Amount,
}

impl Funded {
    /// The terms, the scripts and the address.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What was agreed.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.opened.terms
    }

    /// The pinned outpoint; the channel's name.
    #[must_use]
    pub fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// All that the channel holds.
    #[must_use]
    pub fn capacity(&self) -> Amount {
        self.capacity
    }

    /// Refuses a second funding: one outpoint is pinned, for good.
    ///
    /// # Errors
    ///
    /// [`FundingError::OtherOutpoint`], or what [`Opened::fund`] says of this transaction.
    pub fn check_same_funding(&self, raw: &[u8]) -> Result<(), FundingError> {
        let again = self.opened.clone().fund(raw)?;
        if again.outpoint == self.outpoint { Ok(()) } else { Err(FundingError::OtherOutpoint) }
    }

    /// What is credited when `change` is left: the rest of the capacity, at least 0.
    #[must_use]
    pub fn credit(&self, change: Amount) -> Amount {
        self.capacity.checked_sub(change).unwrap_or(Amount::ZERO)
    }

    /// The largest credit, up to `wanted`, whose change is no dust.
    #[must_use]
    pub fn creditable(&self, wanted: Amount) -> Amount {
        let wanted = wanted.min(self.capacity);
        let change = self.credit(wanted);
        if is_legal_change(change) { wanted } else { self.credit(DUST) }
    }

    pub(super) fn prevout(&self) -> TxOut {
        self.opened.txout(self.capacity)
    }
}

/// Whole satoshi that cover `charges`.
pub(super) fn sat_ceil(charges: MilliSat) -> Amount {
    Amount::from_sat(charges.0.div_ceil(1_000))
}

/// The same amount in millisatoshi. Amounts here are at most [`super::MAX_CAPACITY`].
pub(super) fn millisat(amount: Amount) -> MilliSat {
    MilliSat(amount.to_sat().saturating_mul(1_000))
}
