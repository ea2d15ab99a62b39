//! The lists of a watch.

use kube::api::ListParams;

use super::Watch;
use super::freshness::Freshness;
use super::requests::list_request;
use crate::source::kubernetes::client::{self, Failure, Read};
use crate::source::kubernetes::credentials::CredentialVersion;
use crate::source::kubernetes::kind::Watched;
use crate::source::kubernetes::update::{WatchState, WatchUpdate};
use crate::source::kubernetes::version::Version;

impl<K: Watched> Watch<'_, K> {
    /// Lists everything; what existed and is not listed is gone. The server's watch cache is good
    /// enough if it has what was seen, so that a thousand nodes that start do not read its store.
    pub(super) async fn list(
        &mut self,
        credentials: &CredentialVersion,
    ) -> Result<Version, Failure> {
        let freshness = self.seen.next_list();
        let mut result = self.pages(credentials, self.params(&freshness), &freshness).await;
        if freshness != Freshness::Newest
            && matches!(result, Err(Failure::Expired | Failure::NotYet))
        {
            self.seen.unavailable();
            let newest = Freshness::Newest;
            result = self.pages(credentials, self.params(&newest), &newest).await;
        }
        match result {
            // Pages lapse where reading them takes minutes: the whole takes one response.
            Err(Failure::Expired) => {
                let whole = ListParams { limit: None, ..self.params(&Freshness::Newest) };
                self.pages(credentials, whole, &Freshness::Newest).await
            }
            result => result,
        }
    }

    /// Lists page by page.
    async fn pages(
        &mut self,
        credentials: &CredentialVersion,
        mut params: ListParams,
        freshness: &Freshness,
    ) -> Result<Version, Failure> {
        self.store.begin_list();
        loop {
            let request = list_request::<K>(&params)?;
            let page = client::page::<K>(&credentials.client, request, self.timeouts).await?;
            let version = Version::of(page.metadata.resource_version)?;
            if let Freshness::NotOlderThan(seen) = freshness
                && version.is_before(seen)
            {
                return Err(Failure::NotYet);
            }
            let update = self.store_page(page.items);
            self.send(update).await;
            self.seen.saw(&version);
            let is_paged = params.continue_token.is_some();
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let mut update = self.store.end_list::<K>();
                update.state = Some(WatchState::Listed);
                self.send(update).await;
                self.seen.listed(freshness, is_paged);
                return Ok(version);
            }
        }
    }

    /// The version of the store as it is now, whatever the watch cache holds.
    pub(super) async fn newest(
        &mut self,
        credentials: &CredentialVersion,
    ) -> Result<Version, Failure> {
        let params = ListParams { limit: Some(1), ..self.params(&Freshness::Newest) };
        let request = list_request::<K>(&params)?;
        let page = client::page::<K>(&credentials.client, request, self.timeouts).await?;
        self.reached().await;
        Version::of(page.metadata.resource_version)
    }

    fn params(&self, freshness: &Freshness) -> ListParams {
        let selection = K::selection(self.node);
        let mut params = ListParams {
            label_selector: selection.labels,
            field_selector: selection.fields,
            ..ListParams::default()
        };
        freshness.apply(&mut params, self.seen.has_cache());
        params
    }

    fn store_page(&mut self, items: Vec<Read<K>>) -> WatchUpdate {
        let mut update = self.store.page(items);
        update.state = Some(WatchState::Reached);
        update
    }
}
