//! Finds what the events of a stream refer to, and the stage that each of them belongs to.

use std::collections::BTreeMap;

use super::{Duty, PlanError, Sender, Settings, Stage, Step, Task};
use crate::gateway::fhir::{Access, Content, Event, Grant, Holder};
use crate::types::{Effect, OrgId, Provision, TimestampMs};

/// Stages before the clinical ones.
const SETUP_STAGES: usize = 2;
/// Clinical depth of consents and first versions.
const DEPTH_FIRST: usize = 0;
/// Clinical depth of accesses.
const DEPTH_ACCESS: usize = 1;
/// Clinical depth of revocations: after the accesses under the consent.
const DEPTH_REVOKE: usize = 2;
/// Clinical depth of accesses under a consent that was revoked before.
const DEPTH_ACCESS_REVOKED: usize = 3;

/// An organisation that the stream brings.
pub(super) struct OrgPlan {
    pub(super) number: OrgId,
    pub(super) name: String,
    pub(super) operational_keys: u32,
}

pub(super) struct Plan {
    pub(super) orgs: Vec<OrgPlan>,
    pub(super) stages: Vec<(Stage, Vec<Step>)>,
}

/// What the stream brings, by `Type/id`.
#[derive(Default)]
struct Index<'a> {
    /// Positions of organisations in [`Plan::orgs`].
    orgs: BTreeMap<&'a str, usize>,
    /// Owner of a device, and the position of the first of its keys.
    devices: BTreeMap<&'a str, Sender>,
    /// Active consents.
    grants: BTreeMap<&'a str, (&'a Event, &'a Grant)>,
    /// When a consent ended, and the line that says so.
    revoked: BTreeMap<&'a str, (TimestampMs, usize)>,
    /// Active consents of a patient.
    by_patient: BTreeMap<&'a str, Vec<&'a str>>,
    /// All versions of a resource, with their events.
    versions: BTreeMap<&'a str, BTreeMap<u32, &'a Event>>,
}

pub(super) fn resolve(events: &[Event], settings: Settings, governors: usize) -> Result<Plan, PlanError> {
    let (index, orgs) = build_index(events, settings)?;
    if governors == 0 && !orgs.is_empty() {
        return Err(PlanError::NoGovernor);
    }
    let mut stages: Vec<Vec<Step>> = vec![Vec::new(); SETUP_STAGES];
    for (at, event) in events.iter().enumerate() {
        for (stage, task) in tasks(event, &index, &orgs, governors)? {
            if stages.len() <= stage {
                stages.resize_with(stage + 1, Vec::new);
            }
            stages[stage].push(Step { event: at, task });
        }
    }
    let times = u64::from(settings.times.max(1));
    let stages = stages
        .into_iter()
        .enumerate()
        .map(|(index, steps)| {
            let copies = if index < SETUP_STAGES { 1 } else { times };
            (Stage { index, name: stage_name(index), transactions: steps.len() as u64 * copies }, steps)
        })
        .collect();
    Ok(Plan { orgs, stages })
}

fn stage_name(index: usize) -> &'static str {
    match index {
        0 => "admissions",
        1 => "keys",
        2 => "consents and first versions",
        3 => "accesses and second versions",
        4 => "revocations",
        _ => "later versions and accesses",
    }
}

fn build_index(events: &[Event], settings: Settings) -> Result<(Index<'_>, Vec<OrgPlan>), PlanError> {
    let mut index = Index::default();
    let mut orgs = Vec::new();
    for event in events {
        let versions = index.versions.entry(&event.resource).or_default();
        if let Some(first) = versions.insert(event.version, event) {
            let what = "this version of the resource";
            return Err(PlanError::Repeated { line: event.line, first: first.line, what });
        }
        match &event.content {
            Content::Organization { name, .. } => {
                let number = u32::try_from(orgs.len())
                    .ok()
                    .and_then(|offset| settings.first_org.checked_add(offset))
                    .ok_or(PlanError::OrgNumbers(settings.first_org))?;
                if index.orgs.insert(&event.resource, orgs.len()).is_some() {
                    let first = versions.values().next().map_or(event.line, |first| first.line);
                    let what = "the organisation";
                    return Err(PlanError::Repeated { line: event.line, first, what });
                }
                orgs.push(OrgPlan { number: OrgId(number), name: name.clone(), operational_keys: 0 });
            }
            Content::Grant(grant) => {
                if let Some((first, _)) = index.grants.insert(&event.resource, (event, grant)) {
                    let what = "the consent in force (revoke it and make a new one to change it)";
                    return Err(PlanError::Repeated { line: event.line, first: first.line, what });
                }
                index.by_patient.entry(&grant.patient).or_default().push(&event.resource);
            }
            Content::Revoke { effective, .. } => {
                if let Some((_, first)) = index.revoked.insert(&event.resource, (*effective, event.line)) {
                    let what = "the end of the consent";
                    return Err(PlanError::Repeated { line: event.line, first, what });
                }
            }
            Content::Device { .. } | Content::Record { .. } | Content::Access(_) => {}
        }
    }
    index_devices(events, &mut index, &mut orgs)?;
    Ok((index, orgs))
}

/// Gives each device three keys of its owner. Devices may stand before their owners in the stream.
fn index_devices<'a>(
    events: &'a [Event],
    index: &mut Index<'a>,
    orgs: &mut [OrgPlan],
) -> Result<(), PlanError> {
    for event in events {
        let Content::Device { owner } = &event.content else { continue };
        let what = "the organisation that owns the device";
        let org = *index.orgs.get(owner.as_str()).ok_or(PlanError::Unresolved { line: event.line, what })?;
        let keys = &mut orgs[org].operational_keys;
        let sender = Sender { org, key: *keys as usize };
        if index.devices.insert(&event.resource, sender).is_none() {
            *keys += u32::try_from(Duty::ALL.len()).unwrap_or_default();
        }
    }
    Ok(())
}

/// The transactions that one event becomes, with their stages.
fn tasks(
    event: &Event,
    index: &Index<'_>,
    orgs: &[OrgPlan],
    governors: usize,
) -> Result<Vec<(usize, Task)>, PlanError> {
    let line = event.line;
    let clinical = |depth: usize, task: Task| (SETUP_STAGES + depth, task);
    Ok(match &event.content {
        Content::Organization { .. } => {
            let org = index.org(&event.resource, line)?;
            // More than two thirds of the members; a vote after the one that admits would be skipped.
            let votes = governors * 2 / 3 + 1;
            (0..votes).map(|i| (0, Task::Admit { org, governor: (org + i) % governors })).collect()
        }
        Content::Device { .. } => {
            let sender = index.device(&event.resource, line)?;
            let keys = sender.key..sender.key + Duty::ALL.len();
            keys.map(|key| (1, Task::AddKey { org: sender.org, key })).collect()
        }
        Content::Grant(grant) => {
            let sender = index.signer(index.org(&grant.custodian, line)?, Duty::Consent, orgs, line)?;
            let task = |grantee: OrgId| clinical(DEPTH_FIRST, Task::Grant { sender, grantee });
            index.grantees(grant, orgs, line)?.into_iter().map(task).collect()
        }
        Content::Revoke { .. } => {
            let what = "the consent that it revokes";
            let (_, grant) =
                index.grants.get(event.resource.as_str()).ok_or(PlanError::Unresolved { line, what })?;
            let sender = index.signer(index.org(&grant.custodian, line)?, Duty::Consent, orgs, line)?;
            let task = |grantee: OrgId| clinical(DEPTH_REVOKE, Task::Revoke { sender, grantee });
            index.grantees(grant, orgs, line)?.into_iter().map(task).collect()
        }
        Content::Record { holder, .. } => {
            let sender = index.signer(index.holder(holder, line)?, Duty::Record, orgs, line)?;
            let earlier = index.versions.get(event.resource.as_str());
            let earlier = earlier.into_iter().flat_map(|versions| versions.range(..event.version));
            let depth = DEPTH_FIRST + earlier.clone().count();
            let prev = earlier.last().map(|(version, _)| *version);
            vec![clinical(depth, Task::Record { sender, prev })]
        }
        Content::Access(access) => {
            let device = index.device(&access.device, line)?;
            let sender = Sender { org: device.org, key: device.key + Duty::Access as usize };
            let home = index.home(access, line)?.unwrap_or(sender.org);
            let origin = if home == sender.org { OrgId(0) } else { orgs[home].number };
            let consent = index.consent_of(access, sender.org, home);
            let revoked = consent.and_then(|resource| index.revoked.get(resource));
            let depth = match revoked {
                Some((effective, _)) if *effective <= access.occurred => DEPTH_ACCESS_REVOKED,
                Some(_) | None => DEPTH_ACCESS,
            };
            let consent = consent.map(|resource| (resource.to_owned(), orgs[sender.org].number));
            vec![clinical(depth, Task::Access { sender, origin, consent })]
        }
    })
}

impl<'a> Index<'a> {
    fn org(&self, reference: &str, line: usize) -> Result<usize, PlanError> {
        let what = "the organisation that it names";
        self.orgs.get(reference).copied().ok_or(PlanError::Unresolved { line, what })
    }

    fn device(&self, reference: &str, line: usize) -> Result<Sender, PlanError> {
        let what = "the device that it names";
        self.devices.get(reference).copied().ok_or(PlanError::Unresolved { line, what })
    }

    /// The key of an organisation's first device for a duty.
    fn signer(&self, org: usize, duty: Duty, orgs: &[OrgPlan], line: usize) -> Result<Sender, PlanError> {
        if orgs[org].operational_keys == 0 {
            let what = "a device of the organisation, whose keys could sign for it,";
            return Err(PlanError::Unresolved { line, what });
        }
        Ok(Sender { org, key: duty as usize })
    }

    fn grantees(&self, grant: &Grant, orgs: &[OrgPlan], line: usize) -> Result<Vec<OrgId>, PlanError> {
        grant.grantees.iter().map(|grantee| Ok(orgs[self.org(grantee, line)?].number)).collect()
    }

    fn holder(&self, holder: &Holder, line: usize) -> Result<usize, PlanError> {
        match holder {
            Holder::Organization(org) => self.org(org, line),
            Holder::DeviceOwner(device) => Ok(self.device(device, line)?.org),
            Holder::ConsentCustodian(consent) => {
                let what = "the consent that it names";
                let (_, grant) =
                    self.grants.get(consent.as_str()).ok_or(PlanError::Unresolved { line, what })?;
                self.org(&grant.custodian, line)
            }
        }
    }

    /// Where the data of an access lie: with the holder of the record, else with whoever keeps the patient's consents.
    fn home(&self, access: &Access, line: usize) -> Result<Option<usize>, PlanError> {
        let versions = access.target.as_deref().and_then(|target| self.versions.get(target));
        if let Some(event) = versions.and_then(|versions| versions.values().next())
            && let Content::Record { holder, .. } = &event.content
        {
            return self.holder(holder, line).map(Some);
        }
        let consents = access.patient.as_deref().and_then(|patient| self.by_patient.get(patient));
        match consents.and_then(|consents| consents.first()).and_then(|consent| self.grants.get(consent)) {
            Some((_, grant)) => self.org(&grant.custodian, line).map(Some),
            None => Ok(None),
        }
    }

    /// The consent that an access relies on; see the module above for the rule.
    fn consent_of(&self, access: &Access, org: usize, home: usize) -> Option<&'a str> {
        if access.break_glass || (org == home && !access.purpose.needs_consent_at_home()) {
            return None;
        }
        let purpose = u16::from(access.purpose.code());
        let names = |wanted: u16, found: u16| found == wanted || found == Provision::ANY;
        let matching = |resource: &&'a str, exact: bool| {
            self.grants.get(resource).is_some_and(|(_, grant)| {
                grant.grantees.iter().any(|grantee| self.orgs.get(grantee.as_str()) == Some(&org))
                    && grant.provisions.iter().any(|rule| {
                        rule.effect == Effect::Permit
                            && names(purpose, rule.purpose)
                            && (!exact || names(access.category, rule.category))
                    })
            })
        };
        let consents = self.by_patient.get(access.patient.as_deref()?)?;
        consents
            .iter()
            .find(|resource| matching(resource, true))
            .or_else(|| consents.iter().find(|resource| matching(resource, false)))
            .copied()
    }
}
