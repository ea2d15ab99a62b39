//! The maps of the loaded programs: rows that an agent would write, and what packets leave.

use anyhow::{Context, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapFd, PerCpuArray, PerCpuValues};
use lb_common::address::Address;
use lb_common::filter::Position;
use lb_common::maps;
use lb_common::snat::{GROUPS, HINT_ROWS, PortHints, Rows};
use lb_common::source_range::SourceRange;
use lb_ebpf::world::RateLimit;

use super::programs::{FIRST_TURN, Programs, UNLIMITED};

/// A value that maps hold as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct AyaPod<T>(pub T);

// SAFETY: `bytemuck::Pod` asks for all that `aya::Pod` does, and the wrapper adds nothing.
unsafe impl<T: bytemuck::Pod> aya::Pod for AyaPod<T> {}

impl Programs {
    /// The descriptor of a map.
    ///
    /// # Errors
    /// If there is no such map.
    pub fn map_fd(&self, name: &str) -> Result<&MapFd> {
        let map = self.ebpf.map(name).with_context(|| format!("the object has no map {name}"))?;
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)) = map
        else {
            bail!("{name} is of a kind that the catalogue does not have");
        };
        Ok(data.fd())
    }

    /// Lets every CPU do what `limit` counts so many times more.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn allow(&mut self, limit: RateLimit, times: u32) -> Result<()> {
        let state = AyaPod([FIRST_TURN, UNLIMITED - times]);
        let values = PerCpuValues::try_from(vec![state; aya::util::nr_cpus().map_err(|e| e.1)?])?;
        let mut map: PerCpuArray<_, AyaPod<[u32; 2]>> =
            PerCpuArray::try_from(self.map("RATE_LIMIT")?)?;
        Ok(map.set(limit as u32, values, 0)?)
    }

    /// Writes a source range.
    ///
    /// # Errors
    /// If the map is not there or is full.
    pub fn insert_source_range<A: Address>(
        &mut self,
        map: &str,
        range: &SourceRange<A>,
    ) -> Result<()>
    where
        SourceRange<A>: bytemuck::Pod,
    {
        let bytes = bytemuck::bytes_of(range);
        match *bytes {
            [_, _, _, _, ref data @ ..] if data.len() == 8 => {
                self.insert_range_bytes::<8>(map, range.bits, data.try_into()?)
            }
            [_, _, _, _, ref data @ ..] => {
                self.insert_range_bytes::<20>(map, range.bits, data.try_into()?)
            }
            _ => bail!("a source range begins with its number of bits"),
        }
    }

    fn insert_range_bytes<const N: usize>(
        &mut self,
        map: &str,
        bits: u32,
        data: [u8; N],
    ) -> Result<()> {
        let mut trie: LpmTrie<_, [u8; N], u32> = LpmTrie::try_from(self.map(map)?)?;
        Ok(trie.insert(&Key::new(bits, data), 1, 0)?)
    }

    /// Writes an entry of a hash.
    ///
    /// # Errors
    /// If the map is not there or is full.
    pub fn insert<K: bytemuck::Pod, V: bytemuck::Pod>(
        &mut self,
        map: &str,
        key: K,
        value: V,
    ) -> Result<()> {
        let mut hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        Ok(hash.insert(AyaPod(key), AyaPod(value), 0)?)
    }

    /// Removes an entry of a hash.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, map: &str, key: K) -> Result<()> {
        let mut hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        Ok(hash.remove(&AyaPod(key))?)
    }

    /// The keys of a hash.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn keys<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, map: &str) -> Result<Vec<K>> {
        let hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        hash.keys().map(|key| Ok(key?.0)).collect()
    }

    /// Removes every entry of a hash.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn clear<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, map: &str) -> Result<()> {
        let mut hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        let keys: Vec<_> = hash.keys().collect::<Result<_, _>>()?;
        for key in keys {
            hash.remove(&key)?;
        }
        Ok(())
    }

    /// Sets an element of an array.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn set<V: bytemuck::Pod>(&mut self, map: &str, index: u32, value: V) -> Result<()> {
        let mut array: Array<_, AyaPod<V>> = Array::try_from(self.map(map)?)?;
        Ok(array.set(index, AyaPod(value), 0)?)
    }

    /// Clears all hints of which source ports are in use.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn clear_port_hints(&mut self) -> Result<()> {
        let mut hints: Array<_, PortHints> = Array::try_from(self.map(maps::PORT_HINTS.name)?)?;
        for row in 0..HINT_ROWS {
            hints.set(row, PortHints::default(), 0)?;
        }
        for group in 0..GROUPS {
            self.set(maps::FULL_ROWS.name, group, Rows::default())?;
        }
        Ok(())
    }

    /// Sets the filter's bits at `position`.
    ///
    /// # Errors
    /// If it lies outside.
    pub fn set_filter_bits(&mut self, position: Position) -> Result<()> {
        let mut filter: Array<_, u64> = Array::try_from(self.map("FILTER")?)?;
        let word = filter.get(&position.word, 0)?;
        Ok(filter.set(position.word, word | position.mask, 0)?)
    }

    /// Empties the cache of next hops.
    ///
    /// # Errors
    /// If a map is not there.
    pub fn clear_fib_cache(&mut self) -> Result<()> {
        self.zero::<48>("FIB_CACHE_V4")?;
        self.zero::<88>("FIB_CACHE_V6")
    }

    /// Fills an array per CPU with zeroes.
    fn zero<const N: usize>(&mut self, map: &str) -> Result<()> {
        let mut array: PerCpuArray<_, [u8; N]> = PerCpuArray::try_from(self.map(map)?)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        for index in 0..array.len() {
            array.set(index, PerCpuValues::try_from(vec![[0; N]; cpus])?, 0)?;
        }
        Ok(())
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}
