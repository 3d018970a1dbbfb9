/** What `isthmus bpf … list` shows of each map. Pure: rows in, columns out; fields nobody knows yet get a column. */
import { reservedName } from '../api/identity-number.ts';
import { type FlagSet, flagNames } from '../datapath/flag-names.ts';
import type { Column } from './columns.ts';
import type { MapHeader, MapRow } from './map-lines.ts';

/** A row of a map, the node it is from, and how long it is still valid. */
export interface NodeRow {
  readonly node: string;
  readonly key: MapRow['key'];
  readonly value: MapRow['value'];
  /** Seconds; negative: it has expired and counts no more. Only of rows that expire. */
  readonly expiresIn?: number;
}

/** Rows of one node, with their expiry on that node's clock worked out. */
export function nodeRows(node: string, header: MapHeader, rows: readonly MapRow[]): NodeRow[] {
  return rows.map(row => {
    const expires = typeof row.value === 'object' ? row.value.expires : undefined;
    return typeof expires === 'number'
      ? { node, ...row, expiresIn: expires - header.monotonic }
      : { node, ...row };
  });
}

export interface Listing {
  readonly titles: readonly (string | Column)[];
  readonly rows: readonly (readonly string[])[];
}

/** Reads fields of a row by path (`key.addr`) and remembers which were read. */
class Fields {
  readonly #steps = new Map<string, readonly string[]>();
  row!: NodeRow;

  taken(path: string): boolean {
    return this.#steps.has(path);
  }

  raw(path: string): unknown {
    let steps = this.#steps.get(path);
    if (!steps) {
      steps = path.split('.');
      this.#steps.set(path, steps);
    }
    let at: unknown = this.row;
    for (const step of steps)
      at =
        typeof at === 'object' && at !== null ? (at as Readonly<Record<string, unknown>>)[step] : undefined;
    return at;
  }

  text(path: string): string {
    const value = this.raw(path);
    return value === undefined || value === null ? '' : String(value);
  }

  number(path: string): number {
    return Number(this.raw(path) ?? 0);
  }
}

type Cells = (fields: Fields) => string[];

/**
 * Cells of every row by `cells`, and a further column for each field that it did not read and that is not zero
 * everywhere: what a newer datapath has in its rows is seen here before anybody has taught this command about it.
 */
function table(titles: readonly (string | Column)[], rows: readonly NodeRow[], cells: Cells): Listing {
  const fields = new Fields();
  const known = rows.map(row => {
    fields.row = row;
    return cells(fields);
  });
  // All rows of a map have the same fields.
  const [first] = rows;
  const others = first ? [...paths('key', first.key), ...paths('value', first.value)] : [];
  const extra = others
    .filter(path => !fields.taken(path))
    .filter(path =>
      rows.some(row => {
        fields.row = row;
        return !/^(0|)$/.test(fields.text(path));
      }),
    );
  return {
    titles: [...titles, ...extra.map(path => path.replace(/^(key|value)\./, '').toUpperCase())],
    rows: rows.map((row, at) => {
      fields.row = row;
      return [...known[at]!, ...extra.map(path => fields.text(path))];
    }),
  };
}

function paths(prefix: string, value: unknown): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [prefix];
  return Object.entries(value).flatMap(([name, part]) => paths(`${prefix}.${name}`, part));
}

const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'ICMP',
  6: 'TCP',
  17: 'UDP',
  58: 'ICMPv6',
  132: 'SCTP',
};
export const protocolName = (number: number): string => PROTOCOLS[number] ?? String(number);

/** '10.1.0.1:80', '[2001:db8::1]:80'. */
export const addressPort = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

/** The unspecified address of either family. */
const isZero = (address: string): boolean => address === '::' || address === '0.0.0.0';

const identityText = (number: number): string => reservedName(number) ?? String(number);

/** '42s', '2h13m': how long until a row is forgotten. */
export function durationText(seconds: number): string {
  if (seconds < 0) return 'expired';
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  return `${Math.floor(seconds / 3600)}h${String(Math.floor((seconds % 3600) / 60)).padStart(2, '0')}m`;
}

const flags = (fields: Fields, set: FlagSet): string => flagNames(set, fields.number('value.flags'));

/** Cluster ID of an address space that is not the own one. */
const inCluster = (fields: Fields, path: string): string => {
  const id = fields.number(path);
  return id === 0 ? '' : `@${id}`;
};

export function conntrackTable(rows: readonly NodeRow[]): Listing {
  const titles = ['NODE', 'PROTO', 'SOURCE', 'DESTINATION', 'STATE', 'EXPIRES', 'IDENTITY', 'SERVICE', 'NAT'];
  return table(titles, rows, fields => {
    const bits = fields.number('value.flags');
    const ends = [
      addressPort(fields.text('key.saddr'), fields.number('key.sport')),
      addressPort(fields.text('key.daddr'), fields.number('key.dport')),
    ];
    // The key has its lower end first; a flag says which end began.
    if (bits & 1) ends.reverse();
    fields.raw('value.expires');
    const service = fields.number('value.service_id');
    return [
      fields.row.node,
      protocolName(fields.number('key.proto')) + inCluster(fields, 'key.cluster_id'),
      ...ends,
      stateText(fields.number('key.proto'), bits),
      durationText(fields.row.expiresIn ?? 0),
      identityText(fields.number('value.identity')),
      service === 0 ? '' : String(service),
      bits & 128 ? 'dsr' : bits & 2 ? 'yes' : '',
    ];
  });
}

function stateText(protocol: number, bits: number): string {
  if (bits & 64) return 'reset';
  if ((bits & 48) === 48) return 'closed';
  if (bits & 48) return 'closing';
  if (bits & 8) return protocol === 6 ? 'established' : 'answered';
  return bits & 4 ? 'syn-sent' : 'one-way';
}

export function natTable(rows: readonly NodeRow[]): Listing {
  const titles = ['NODE', 'PROTO', 'FLOW', 'BECOMES', 'EXPIRES', 'SERVICE', 'BACKEND', 'FLAGS'];
  return table(titles, rows, fields => {
    const flow = (at: string): string =>
      `${addressPort(fields.text(`${at}.saddr`), fields.number(`${at}.sport`))} → ${addressPort(fields.text(`${at}.daddr`), fields.number(`${at}.dport`))}`;
    fields.raw('value.expires');
    fields.raw('value.to.proto');
    fields.raw('value.to.cluster_id');
    const some = (path: string): string => (fields.number(path) === 0 ? '' : fields.text(path));
    return [
      fields.row.node,
      protocolName(fields.number('key.proto')) + inCluster(fields, 'key.cluster_id'),
      flow('key'),
      flow('value.to'),
      durationText(fields.row.expiresIn ?? 0),
      some('value.service_id'),
      some('value.backend_id'),
      flags(fields, 'NAT'),
    ];
  });
}

/** '10.1.0.0/24': the key's length counts the 32 bits before the address, and IPv4 has 96 more before it. */
export function ipcachePrefix(row: Pick<NodeRow, 'key'>): string {
  const key = row.key as Readonly<Record<string, unknown>>;
  const address = String(key.addr);
  const length = Number(key.prefixlen) - 32;
  return `${address}/${address.includes(':') ? length : length - 96}`;
}

export function ipcacheTable(rows: readonly NodeRow[]): Listing {
  return table(['PREFIX', 'IDENTITY', 'BEHIND NODE'], rows, fields => {
    for (const path of ['key.prefixlen', 'key.addr']) fields.raw(path);
    const tunnel = fields.text('value.tunnel');
    return [
      ipcachePrefix(fields.row) + inCluster(fields, 'key.cluster_id'),
      identityText(fields.number('value.identity')),
      isZero(tunnel) ? '' : tunnel,
    ];
  });
}

export function endpointTable(rows: readonly NodeRow[]): Listing {
  const titles = ['NODE', 'ADDRESS', 'ENDPOINT', 'IDENTITY', 'INTERFACE', 'POD MAC', 'NODE MAC', 'FLAGS'];
  return table(titles, rows, fields => {
    // A row of the node's own address has none of these.
    const host = (fields.number('value.flags') & 1) !== 0;
    const [id, ifindex, mac, hostMac] = ['endpoint_id', 'ifindex', 'mac', 'host_mac'].map(name =>
      fields.text(`value.${name}`),
    );
    return [
      fields.row.node,
      fields.text('key.addr') + inCluster(fields, 'key.cluster_id'),
      ...(host ? [''] : [id!]),
      identityText(fields.number('value.identity')),
      ...(host ? ['', '', ''] : [ifindex!, mac!, hostMac!]),
      flags(fields, 'ENDPOINT'),
    ];
  });
}

export interface CountRow {
  readonly node: string;
  readonly reason: string;
  readonly direction: string;
  readonly packets: number;
  readonly bytes: number;
}

const DIRECTIONS = ['', 'ingress', 'egress', 'service'];

/** Counters by their names; index = reason * 4 + direction. */
export function countRows(node: string, header: MapHeader, rows: readonly MapRow[]): CountRow[] {
  return rows.map(({ key, value }) => {
    const index = Number(key);
    const counted = value as Readonly<Record<string, unknown>>;
    const name = header.reasons?.[Math.floor(index / 4)] ?? `reason ${Math.floor(index / 4)}`;
    return {
      node,
      reason: name
        .replace(/^REASON_/, '')
        .toLowerCase()
        .replaceAll('_', ' '),
      direction: DIRECTIONS[index % 4]!,
      packets: Number(counted.packets),
      bytes: Number(counted.bytes),
    };
  });
}

export function metricsTable(rows: readonly CountRow[]): Listing {
  const right = (title: string): Column => ({ title, right: true });
  return {
    titles: ['NODE', 'REASON', 'DIRECTION', right('PACKETS'), right('BYTES')],
    rows: rows.map(each => [
      each.node,
      each.reason,
      each.direction,
      each.packets.toLocaleString('en'),
      each.bytes.toLocaleString('en'),
    ]),
  };
}

/** A frontend with the backends its packets choose from, as the maps have them. */
export interface LbRow {
  readonly node: string;
  readonly id: number;
  readonly frontend: string;
  readonly protocol: string;
  /** 'outside', 'inside' where clients of the cluster have a row of their own; '' for everybody. */
  readonly clients: string;
  readonly backends: readonly { readonly id: number; readonly address: string }[];
  readonly row: NodeRow;
}

/** Joins frontends with their slots and backends. A slot whose backend is missing is shown as such. */
export function lbRows(
  frontends: readonly NodeRow[],
  slots: readonly NodeRow[],
  backends: readonly NodeRow[],
): LbRow[] {
  const part = (row: NodeRow, side: 'key' | 'value', name: string): unknown =>
    (row[side] as Readonly<Record<string, unknown>>)[name];
  const backendText = new Map(
    backends.map(row => [
      Number(part(row, 'key', 'backend_id')),
      addressPort(String(part(row, 'value', 'addr')), Number(part(row, 'value', 'port'))),
    ]),
  );
  const slotsOf = new Map<number, Map<number, number>>();
  for (const row of slots) {
    const id = Number(part(row, 'key', 'service_id'));
    const found = slotsOf.get(id) ?? new Map<number, number>();
    found.set(Number(part(row, 'key', 'slot')), Number(part(row, 'value', 'backend_id')));
    slotsOf.set(id, found);
  }
  return frontends
    .map(row => {
      const id = Number(part(row, 'value', 'service_id'));
      const bits = Number(part(row, 'value', 'flags'));
      const address = String(part(row, 'key', 'addr'));
      const ids = Array.from({ length: Number(part(row, 'value', 'count')) }, (_, slot) =>
        Number(slotsOf.get(id)?.get(slot) ?? 0),
      );
      return {
        node: row.node,
        id,
        frontend: addressPort(address, Number(part(row, 'key', 'port'))),
        protocol: protocolName(Number(part(row, 'key', 'proto'))),
        clients: Number(part(row, 'key', 'scope')) === 1 ? 'inside' : bits & 16 ? 'outside' : '',
        backends: ids.map(each => ({
          id: each,
          address: backendText.get(each) ?? `backend ${each} is missing`,
        })),
        row,
      };
    })
    .sort((a, b) => a.id - b.id);
}

export function lbTable(rows: readonly LbRow[]): Listing {
  const of = new Map(rows.map(each => [each.row, each]));
  const titles = ['ID', 'FRONTEND', 'PROTO', 'CLIENTS', 'BACKENDS', 'FLAGS'];
  return table(
    titles,
    rows.map(each => each.row),
    fields => {
      for (const path of ['key.addr', 'key.port', 'key.proto', 'key.scope']) fields.raw(path);
      for (const path of ['value.service_id', 'value.count']) fields.raw(path);
      const { id, frontend, protocol, clients, backends } = of.get(fields.row)!;
      const list = backends.map(each => `${each.address} (${each.id})`).join('\n');
      return [String(id), frontend, protocol, clients, list || 'none: refused', flags(fields, 'FRONTEND')];
    },
  );
}

/** Another end of the tunnel, with what lies behind it. */
export interface TunnelRow {
  readonly address: string;
  /** Number of the node's cluster. */
  readonly cluster: number;
  readonly node: string;
  readonly flags: string;
  readonly prefixes: readonly string[];
  /** Single addresses behind it that are no prefix of their own. */
  readonly addresses: number;
}

/** Nodes that may send by the tunnel, and what the ipcache has behind them. */
export function tunnelRows(nodes: readonly NodeRow[], ipcache: readonly NodeRow[]): TunnelRow[] {
  const behind = new Map<string, string[]>();
  for (const row of ipcache) {
    const tunnel = String((row.value as Readonly<Record<string, unknown>>).tunnel);
    if (isZero(tunnel)) continue;
    const list = behind.get(tunnel) ?? [];
    list.push(ipcachePrefix(row));
    behind.set(tunnel, list);
  }
  return (
    nodes
      .map(row => {
        const value = row.value as Readonly<Record<string, unknown>>;
        const address = String((row.key as Readonly<Record<string, unknown>>).addr);
        const all = behind.get(address) ?? [];
        const prefixes = all.filter(each => !/\/(32|128)$/.test(each)).sort();
        return {
          node: row.node,
          address,
          cluster: Number(value.cluster_id),
          flags: flagNames('NODE', Number(value.flags)),
          prefixes,
          addresses: all.length - prefixes.length,
        };
      })
      // Nodes' internal addresses are rows of their own there: no tunnel ends at them.
      .filter(each => each.prefixes.length > 0 || each.addresses > 0)
      .sort((a, b) => a.cluster - b.cluster || (a.address < b.address ? -1 : 1))
  );
}

export function tunnelTable(rows: readonly TunnelRow[]): Listing {
  return {
    titles: ['NODE ADDRESS', 'CLUSTER', 'FLAGS', 'PREFIXES', { title: 'ADDRESSES', right: true }],
    rows: rows.map(each => [
      each.address,
      String(each.cluster),
      each.flags,
      each.prefixes.join('\n'),
      String(each.addresses),
    ]),
  };
}
