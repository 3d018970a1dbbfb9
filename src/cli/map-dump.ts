/** Reads a pinned map of this node into the lines of map-lines.ts. Loads libbpf: only for where an agent runs. */
import { join } from 'node:path';
import { format } from '../datapath/address.ts';
import { macText } from '../datapath/netlink-address.ts';
import { openPinnedMap, pinnedMapNames } from '../datapath/pinned-map.ts';
import { Failure } from '../failure.ts';
import { readMountedConfig } from '../kube/mounted-config.ts';
import type { MapHeader } from './map-lines.ts';

/** The folder that the agent of this node keeps its maps and links in. */
export function bpfFolderOfNode(): string {
  let root = '/sys/fs/bpf';
  try {
    root = readMountedConfig()['bpf-root'] ?? root;
  } catch {
    // On the node itself, outside the pod: the place of every default installation.
  }
  return join(root, 'isthmus');
}

/** Names of the maps there are. */
export const mapNames = (bpffs: string): string[] => pinnedMapNames(bpffs);

/** The lines of one map, read as they are taken. Throws Failure where there is no such map. */
export function* mapLines(bpffs: string, name: string): Generator<string> {
  using map = openPinnedMap<unknown, unknown>(bpffs, name);
  if (!map) {
    const there = pinnedMapNames(bpffs).join(', ');
    throw new Failure(`no map ${name} is pinned below ${bpffs}`, {
      hint: there ? `there are: ${there}` : 'has the agent of this node been started? isthmus agent status',
    });
  }
  const header: MapHeader = {
    map: name,
    maxEntries: map.rows.maxEntries,
    monotonic: Number(process.hrtime.bigint() / 1_000_000_000n),
    ...(name === 'metrics' ? { reasons: Object.fromEntries(map.names('reason')) } : {}),
  };
  yield JSON.stringify(header);
  if (!map.walkable) return;
  const { rows } = map;
  if (!rows.perCpu) {
    for (const [key, value] of rows.entries())
      yield JSON.stringify({ key: readable(key), value: readable(value) });
    return;
  }
  // Arrays of counters: the sum over all CPUs, where there is one.
  for (let key = 0; key < rows.maxEntries; key++) {
    const value = rows.getPerCpu(key).map(readable).reduce(add);
    if (!isZero(value)) yield JSON.stringify({ key, value });
  }
}

/** Bytes as the address, MAC or hexadecimal text they are; 64-bit numbers as numbers while they can be. */
export function readable(value: unknown): unknown {
  if (value instanceof Uint8Array) {
    if (value.length === 16) return format(value);
    return value.length === 6 ? macText(value) : Buffer.from(value).toString('hex');
  }
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (Array.isArray(value)) return value.map(readable);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, part]) => (/^pad\d*$/.test(name) ? [] : [[name, readable(part)]])),
  );
}

function add(a: unknown, b: unknown): unknown {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  if (typeof a !== 'object' || typeof b !== 'object' || !a || !b) return b;
  const other = b as Readonly<Record<string, unknown>>;
  return Object.fromEntries(Object.entries(a).map(([name, part]) => [name, add(part, other[name])]));
}

const isZero = (value: unknown): boolean =>
  typeof value === 'object' && value !== null ? Object.values(value).every(isZero) : !value;
