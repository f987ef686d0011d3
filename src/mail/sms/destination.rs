//! Where a text goes: the gateway's mail address for a telephone number, and where in the mail the number stands.

use crate::mail::{
    address::{Address, AddressError},
    number::Number,
};

/// What stands for the number in a configured destination or subject.
const PLACE: &str = "{number}";

/// Where a gateway reads the number when its address is the same for all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NumberIn {
    /// In the subject, alone when the subject names no other place.
    #[default]
    Subject,
    /// In the first line of the text.
    FirstLine,
}

/// How the mail to a gateway is addressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// The gateway's address: see [`Route::address`].
    pub destination: String,
    /// What stands in front of the digits of a number: nothing, `+` or `00`.
    pub prefix: String,
    /// Where the number is when one address serves all numbers.
    pub number_in: NumberIn,
    /// The subject; `{number}` in it stands for the number.
    pub subject: String,
}

/// What a gateway's mail for one number has besides the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    /// The recipient.
    pub to: Address,
    /// The subject; it may be empty.
    pub subject: String,
    /// What the text begins with: the number's line, or nothing.
    pub first_line: Option<String>,
}

impl Route {
    /// The gateway's address for a number. A destination that begins with `@` gets the number in front of it; one without
    /// `@` is a domain and gets the number and an `@`; `{number}` in any other stands for the number; and one without it
    /// is used as it is, for all numbers.
    pub fn address(&self, number: &Number) -> Result<Address, AddressError> {
        let (pattern, written) = (self.destination.as_str(), self.written(number));
        let address = if pattern.contains(PLACE) {
            pattern.replace(PLACE, &written)
        } else if pattern.starts_with('@') {
            format!("{written}{pattern}")
        } else if pattern.contains('@') {
            pattern.to_owned()
        } else {
            format!("{written}@{pattern}")
        };
        Address::parse(&address)
    }

    /// Whether the address is the same for all numbers.
    pub fn is_fixed(&self) -> bool {
        let pattern = &self.destination;
        !pattern.contains(PLACE) && !pattern.starts_with('@') && pattern.contains('@')
    }

    /// The domain of the gateway's address, in lower case; none of a destination that makes no address.
    pub fn domain(&self) -> Option<String> {
        let sample = Number::parse("+491701234567").ok()?;
        Some(self.address(&sample).ok()?.domain().to_owned())
    }

    /// Addresses a text to a number.
    ///
    /// # Errors
    /// When the destination makes no address of the number.
    pub fn to(&self, number: &Number) -> Result<Addressed, AddressError> {
        let written = self.written(number);
        let bare = self.is_fixed() && self.number_in == NumberIn::Subject && !self.subject.contains(PLACE);
        let subject = match self.subject.as_str() {
            "" if bare => written.clone(),
            given if bare => format!("{given} {written}"),
            given => given.replace(PLACE, &written),
        };
        let first_line = (self.is_fixed() && self.number_in == NumberIn::FirstLine).then_some(written);
        Ok(Addressed { to: self.address(number)?, subject, first_line })
    }

    fn written(&self, number: &Number) -> String {
        format!("{}{}", self.prefix, number.digits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str) -> Route {
        Route { destination: destination.to_owned(), ..Route::default() }
    }

    fn number() -> Number {
        Number::parse("+44 7700 900123").unwrap()
    }

    #[test]
    fn the_number_goes_where_the_gateway_reads_it() {
        let cases = [
            ("@gw.example", "447700900123@gw.example", ""),
            ("gw.example", "447700900123@gw.example", ""),
            ("{number}@gw.example", "447700900123@gw.example", ""),
            ("send+{number}@gw.example", "send+447700900123@gw.example", ""),
            ("sms@gw.example", "sms@gw.example", "447700900123"),
        ];
        for (destination, address, subject) in cases {
            let addressed = route(destination).to(&number()).unwrap();
            assert_eq!(
                (addressed.to.as_str(), addressed.subject.as_str()),
                (address, subject),
                "{destination}"
            );
            assert_eq!(addressed.first_line, None);
        }
    }

    #[test]
    fn an_address_for_all_numbers_may_have_the_number_in_a_subject_of_its_own_or_in_the_first_line() {
        let with = |subject: &str, number_in| Route {
            subject: subject.to_owned(),
            number_in,
            prefix: "+".to_owned(),
            ..route("sms@gw.example")
        };
        let to = |route: Route| {
            let Addressed { subject, first_line, .. } = route.to(&number()).unwrap();
            (subject, first_line)
        };
        assert_eq!(to(with("key7", NumberIn::Subject)), ("key7 +447700900123".to_owned(), None));
        assert_eq!(
            to(with("to={number};key7", NumberIn::Subject)),
            ("to=+447700900123;key7".to_owned(), None)
        );
        assert_eq!(
            to(with("key7", NumberIn::FirstLine)),
            ("key7".to_owned(), Some("+447700900123".to_owned()))
        );
        assert_eq!(
            to(Route { destination: "@gw.example".into(), ..with("key7", NumberIn::Subject) }).0,
            "key7"
        );
    }

    #[test]
    fn a_destination_that_makes_no_address_is_refused() {
        for destination in ["", "@", "sms@", "a b@gw.example", "@gw_example..", "x@y@"] {
            assert!(route(destination).to(&number()).is_err(), "{destination}");
            assert_eq!(route(destination).domain(), None, "{destination}");
        }
        assert_eq!(route("@GW.Example").domain().as_deref(), Some("gw.example"));
    }
}
