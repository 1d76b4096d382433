//! OrderCreated events that look like a shop's: some customers order much more often than others, most orders are
//! small, and the currency follows the region.

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Geometric, LogNormal, Zipf};
use serde::Serialize;
use serde_json::value::RawValue;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::OffsetDateTime;

/// Customers that order; the busiest few place a large share of the orders.
const CUSTOMERS: f64 = 10_000.0;
/// RFC 3339 in UTC with milliseconds.
const CREATED_AT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
/// Region, its currency, units of it in a euro, its smallest unit as a fraction, and its share of the orders in percent.
const REGIONS: [(&str, &str, f64, f64, u32); 5] = [
    ("eu-west", "EUR", 1.0, 100.0, 40),
    ("us-east", "USD", 1.1, 100.0, 30),
    ("uk-south", "GBP", 0.85, 100.0, 12),
    ("ap-northeast", "JPY", 160.0, 1.0, 12),
    ("ch-north", "CHF", 0.95, 100.0, 6),
];
const PRODUCTS: [&str; 8] = [
    "Coffee beans",
    "Desk lamp",
    "Notebook",
    "Rain jacket",
    "Headphones",
    "Water bottle",
    "Board game",
    "Bike light",
];
const FILLER: &[u8] = b"abcdefghijklmnopqrstuvwxyz      ";

/// What orders to make.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of ids and contents; the same seed gives the same orders. Without one, each run differs.
    pub seed: Option<u64>,
    /// Size of a document in bytes; a `note` fills it up. Smaller than the fields need: no filler.
    pub payload_bytes: usize,
    /// Share of orders, 0 to 1, that are wrong on purpose: a negative amount or no currency.
    pub invalid_share: f64,
    /// Value of `source`; without one it is the order's region.
    pub source: Option<String>,
}

/// One order, ready to be written.
#[derive(Clone, Debug)]
pub struct Order {
    /// The document's id, a UUID.
    pub id: String,
    /// The partition key.
    pub customer_id: String,
    /// Whether the order is as it should be.
    pub valid: bool,
    /// The document.
    pub body: Box<RawValue>,
}

#[derive(Serialize)]
struct Item {
    sku: String,
    name: &'static str,
    quantity: u64,
    #[serde(rename = "unitPrice")]
    unit_price: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    customer_id: &'a str,
    amount: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'static str>,
    created_at: String,
    source: &'a str,
    items: Vec<Item>,
    note: String,
}

/// An endless supply of orders.
pub struct Orders {
    rng: StdRng,
    settings: Settings,
    customers: Zipf<f64>,
    price: LogNormal<f64>,
    more: Geometric,
}

impl Orders {
    /// Orders as `settings` describe them.
    pub fn new(settings: Settings) -> Self {
        let rng = match settings.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::try_from_rng(&mut SysRng).expect("the system's random numbers are available"),
        };
        Self {
            rng,
            settings,
            customers: Zipf::new(CUSTOMERS, 1.05).expect("constant parameters are valid"),
            // Median price 18 euros, one in forty above 130.
            price: LogNormal::new(18f64.ln(), 1.0).expect("constant parameters are valid"),
            more: Geometric::new(0.6).expect("constant parameters are valid"),
        }
    }

    /// The next order, created at `now`. Only `createdAt` depends on the time.
    pub fn next_order(&mut self, now: OffsetDateTime) -> Order {
        let rng = &mut self.rng;
        let mut bytes = [0u8; 16];
        rng.fill_bytes(&mut bytes);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        let customer_id = format!("customer-{:05}", self.customers.sample(rng) as u32);
        let mut dice = rng.random_range(0..REGIONS.iter().map(|r| r.4).sum());
        let (region, currency, per_euro, smallest, _) = *REGIONS
            .iter()
            .find(|r| {
                let hit = dice < r.4;
                dice = dice.saturating_sub(r.4);
                hit
            })
            .unwrap_or(&REGIONS[0]);
        let round = |value: f64| (value * smallest).round() / smallest;
        let items: Vec<Item> = (0..=self.more.sample(rng).min(2))
            .map(|_| {
                let product = rng.random_range(0..PRODUCTS.len());
                Item {
                    sku: format!("P{product:02}-{:04}", rng.random_range(0..10_000u32)),
                    name: PRODUCTS[product],
                    quantity: 1 + self.more.sample(rng).min(9),
                    unit_price: round(self.price.sample(rng).clamp(0.5, 5_000.0) * per_euro)
                        .max(1.0 / smallest),
                }
            })
            .collect();
        let amount = round(items.iter().map(|i| i.unit_price * i.quantity as f64).sum());
        let valid = !rng.random_bool(self.settings.invalid_share);
        let (amount, currency) = match (valid, !valid && rng.random_bool(0.5)) {
            (true, _) => (amount, Some(currency)),
            (false, true) => (-amount, Some(currency)),
            (false, false) => (amount, None),
        };
        let mut document = Document {
            id: &id,
            kind: "OrderCreated",
            customer_id: &customer_id,
            amount,
            currency,
            created_at: now
                .to_offset(time::UtcOffset::UTC)
                .format(CREATED_AT)
                .expect("the format fits every time"),
            source: self.settings.source.as_deref().unwrap_or(region),
            items,
            note: String::new(),
        };
        let mut body = raw(&document);
        if let Some(missing) = self
            .settings
            .payload_bytes
            .checked_sub(body.get().len())
            .filter(|&n| n > 0)
        {
            document.note = (0..missing)
                .map(|_| FILLER[rng.random_range(0..FILLER.len())] as char)
                .collect();
            body = raw(&document);
        }
        Order {
            valid,
            body,
            customer_id: customer_id.clone(),
            id: id.clone(),
        }
    }
}

fn raw(document: &Document<'_>) -> Box<RawValue> {
    serde_json::value::to_raw_value(document).expect("strings and finite numbers always serialize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::{HashMap, HashSet};

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-24 10:00:00.25 +1);

    fn settings() -> Settings {
        Settings {
            seed: Some(7),
            payload_bytes: 430,
            invalid_share: 0.0,
            source: None,
        }
    }

    fn make(settings: Settings, n: usize) -> Vec<(Order, Value)> {
        let mut orders = Orders::new(settings);
        (0..n)
            .map(|_| orders.next_order(NOW))
            .map(|o| (o.clone(), serde_json::from_str(o.body.get()).unwrap()))
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_orders_and_another_seed_others() {
        let bodies = |seed| {
            let made = make(Settings { seed, ..settings() }, 50);
            made.into_iter()
                .map(|(o, _)| o.body.get().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(bodies(Some(1)), bodies(Some(1)));
        assert_ne!(bodies(Some(1)), bodies(Some(2)));
        assert_ne!(bodies(None), bodies(None));
    }

    #[test]
    fn an_order_has_its_fields_and_its_amount_adds_up() {
        for (order, doc) in make(settings(), 500) {
            assert_eq!(doc["id"], order.id.as_str());
            assert_eq!(uuid::Uuid::parse_str(&order.id).unwrap().get_version_num(), 4);
            assert_eq!(doc["customerId"], order.customer_id.as_str());
            assert_eq!(doc["createdAt"], "2026-11-24T09:00:00.250Z");
            assert_eq!(doc["type"], "OrderCreated");
            let region = REGIONS.iter().find(|r| doc["source"] == r.0).expect("a region");
            assert_eq!(doc["currency"], region.1);
            let items = doc["items"].as_array().unwrap();
            let sum: f64 = items
                .iter()
                .map(|i| i["quantity"].as_f64().unwrap() * i["unitPrice"].as_f64().unwrap())
                .sum();
            let amount = doc["amount"].as_f64().unwrap();
            assert!(amount > 0.0 && (amount - sum).abs() < 0.011, "{doc}");
        }
    }

    #[test]
    fn ids_differ_and_documents_have_the_size_asked_for() {
        let made = make(settings(), 2_000);
        assert_eq!(
            made.iter().map(|(o, _)| &o.id).collect::<HashSet<_>>().len(),
            2_000
        );
        let exact = made.iter().filter(|(o, _)| o.body.get().len() == 430).count();
        assert!(exact > 1_990, "{exact} of 2000 are 430 bytes");
        let large = make(
            Settings {
                payload_bytes: 10_000,
                ..settings()
            },
            3,
        );
        assert!(large.iter().all(|(o, _)| o.body.get().len() == 10_000));
        let small = make(
            Settings {
                payload_bytes: 0,
                ..settings()
            },
            3,
        );
        assert!(small
            .iter()
            .all(|(o, d)| o.body.get().len() < 430 && d["note"] == ""));
    }

    #[test]
    fn customers_amounts_and_regions_are_spread_like_a_shops() {
        let made = make(settings(), 20_000);
        let mut per_customer: HashMap<&str, u32> = HashMap::new();
        let mut per_region: HashMap<&str, u32> = HashMap::new();
        for (order, doc) in &made {
            *per_customer.entry(&order.customer_id).or_default() += 1;
            *per_region.entry(doc["source"].as_str().unwrap()).or_default() += 1;
        }
        let busiest = *per_customer.values().max().unwrap();
        assert!(
            (1_000..4_000).contains(&busiest),
            "the busiest customer placed {busiest} of 20000"
        );
        assert!(per_customer.len() > 2_000, "{} customers", per_customer.len());
        for (name, _, _, _, share) in REGIONS {
            let got = f64::from(per_region[name]) / 200.0;
            assert!(
                (got - f64::from(share)).abs() < 2.0,
                "{name}: {got} %, not {share} %"
            );
        }
        let mut euros: Vec<f64> = made
            .iter()
            .filter(|(_, d)| d["currency"] == "EUR")
            .map(|(_, d)| d["amount"].as_f64().unwrap())
            .collect();
        euros.sort_by(f64::total_cmp);
        let (median, top) = (euros[euros.len() / 2], euros[euros.len() * 99 / 100]);
        assert!(
            (20.0..100.0).contains(&median) && top > 5.0 * median,
            "median {median}, p99 {top}"
        );
    }

    #[test]
    fn invalid_orders_are_wrong_in_one_of_two_ways_and_as_many_as_asked_for() {
        let made = make(
            Settings {
                invalid_share: 0.1,
                ..settings()
            },
            5_000,
        );
        let (mut negative, mut missing) = (0, 0);
        for (order, doc) in &made {
            let (n, m) = (
                doc["amount"].as_f64().unwrap() < 0.0,
                doc.get("currency").is_none(),
            );
            assert_eq!(order.valid, !(n || m), "{doc}");
            negative += u32::from(n);
            missing += u32::from(m);
        }
        assert!(
            (400..600).contains(&(negative + missing)),
            "{negative} + {missing}"
        );
        assert!(negative > 150 && missing > 150, "{negative} + {missing}");
        assert!(make(settings(), 1_000).iter().all(|(o, _)| o.valid));
    }
}
