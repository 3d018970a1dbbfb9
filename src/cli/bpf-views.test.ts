import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  conntrackTable,
  countRows,
  endpointTable,
  ipcacheTable,
  type Listing,
  lbRows,
  lbTable,
  metricsTable,
  natTable,
  nodeRows,
  tunnelRows,
  tunnelTable,
} from './bpf-views.ts';
import { columns } from './columns.ts';
import { type MapRow, parseMapLines } from './map-lines.ts';

const header = { map: 'm', maxEntries: 10, monotonic: 1000 };
const rowsOf = (rows: readonly MapRow[]) => nodeRows('n1', header, rows);
/** What a user sees, a string a line. */
const seen = ({ titles, rows }: Listing): string[] => columns(titles, rows).trimEnd().split('\n');

const flow = { saddr: '10.1.1.2', daddr: '10.1.2.9', sport: 40_000, dport: 80, cluster_id: 0, proto: 6 };

test('flows from who began to who answered, with state and the time left', () => {
  const value = { expires: 1030, identity: 65_800, service_id: 0, flags: 4 };
  const rows = rowsOf([
    { key: flow, value },
    { key: flow, value: { ...value, flags: 4 | 8 | 1, service_id: 7, expires: 9000 } },
    {
      key: { ...flow, proto: 17, saddr: '2001:db8::1' },
      value: { ...value, identity: 2, flags: 8, expires: 990 },
    },
    { key: flow, value: { ...value, flags: 64 } },
    { key: flow, value: { ...value, flags: 16 | 32 | 2 } },
  ]);
  assert.deepEqual(seen(conntrackTable(rows)), [
    'NODE  PROTO  SOURCE               DESTINATION     STATE        EXPIRES  IDENTITY  SERVICE  NAT',
    'n1    TCP    10.1.1.2:40000       10.1.2.9:80     syn-sent     30s      65800',
    'n1    TCP    10.1.2.9:80          10.1.1.2:40000  established  2h13m    65800     7',
    'n1    UDP    [2001:db8::1]:40000  10.1.2.9:80     answered     expired  world',
    'n1    TCP    10.1.1.2:40000       10.1.2.9:80     reset        30s      65800',
    'n1    TCP    10.1.1.2:40000       10.1.2.9:80     closed       30s      65800              yes',
  ]);
});

test('a field that a newer datapath has in its rows gets a column of its own', () => {
  const rows = rowsOf([
    {
      key: flow,
      value: { expires: 1001, identity: 1, service_id: 0, flags: 0, packets: 12, zone: { id: 3 } },
    },
  ]);
  const [titles, row] = seen(conntrackTable(rows));
  assert.match(titles!, / NAT {2}PACKETS {2}ZONE\.ID$/);
  assert.match(row!, / 12 +3$/);
});

test('translated flows', () => {
  const to = { ...flow, daddr: '10.1.2.10', dport: 8080 };
  const rows = rowsOf([
    { key: flow, value: { to, expires: 1500, backend_id: 3, service_id: 7, flags: 2 } },
    { key: flow, value: { to, expires: 1500, backend_id: 0, service_id: 0, flags: 1 | 4 | 0x100 } },
  ]);
  assert.deepEqual(seen(natTable(rows)), [
    'NODE  PROTO  FLOW                          BECOMES                          EXPIRES  SERVICE  BACKEND  FLAGS',
    'n1    TCP    10.1.1.2:40000 → 10.1.2.9:80  10.1.1.2:40000 → 10.1.2.10:8080  8m       7        3        service',
    'n1    TCP    10.1.1.2:40000 → 10.1.2.9:80  10.1.1.2:40000 → 10.1.2.10:8080  8m                         reply source 0x100',
  ]);
});

const ipcache = rowsOf([
  {
    key: { prefixlen: 152, cluster_id: 0, addr: '10.1.2.0' },
    value: { identity: 2, tunnel: '172.18.1.3', encrypt_key: 0, flags: 0 },
  },
  {
    key: { prefixlen: 160, cluster_id: 0, addr: '10.1.2.9' },
    value: { identity: 65_800, tunnel: '172.18.1.3', encrypt_key: 0, flags: 0 },
  },
  {
    key: { prefixlen: 96, cluster_id: 3, addr: 'fd00::' },
    value: { identity: 6, tunnel: '::', encrypt_key: 0, flags: 0 },
  },
]);

test('prefixes with their length, identity and node', () => {
  assert.deepEqual(seen(ipcacheTable(ipcache)), [
    'PREFIX       IDENTITY     BEHIND NODE',
    '10.1.2.0/24  world        172.18.1.3',
    '10.1.2.9/32  65800        172.18.1.3',
    'fd00::/64@3  remote-node',
  ]);
});

test('ends of the tunnel with what is behind them', () => {
  const nodes = rowsOf([
    { key: { addr: '172.18.1.3' }, value: { cluster_id: 1, flags: 2 } },
    { key: { addr: '172.18.1.2' }, value: { cluster_id: 1, flags: 3 } },
  ]);
  assert.deepEqual(seen(tunnelTable(tunnelRows(nodes, ipcache))), [
    'NODE ADDRESS  CLUSTER  FLAGS        PREFIXES     ADDRESSES',
    '172.18.1.3    1        own-cluster  10.1.2.0/24          1',
  ]);
});

test('frontends with their backends, in the order of their slots', () => {
  const value = { service_id: 7, count: 2, affinity_timeout: 0, flags: 0 };
  const frontends = rowsOf([
    { key: { addr: '10.96.0.1', port: 443, proto: 6, scope: 0 }, value },
    {
      key: { addr: '::', port: 30_080, proto: 6, scope: 1 },
      value: { ...value, service_id: 8, count: 0, flags: 2 | 8 },
    },
    {
      key: { addr: '192.0.2.1', port: 53, proto: 17, scope: 0 },
      value: { ...value, service_id: 9, count: 1, flags: 16 | 1, affinity_timeout: 60 },
    },
  ]);
  const slots = rowsOf([
    { key: { service_id: 7, slot: 1 }, value: { backend_id: 1 } },
    { key: { service_id: 7, slot: 0 }, value: { backend_id: 2 } },
    { key: { service_id: 9, slot: 0 }, value: { backend_id: 5 } },
  ]);
  const backends = rowsOf([
    { key: { backend_id: 1 }, value: { addr: '10.1.1.2', port: 6443, proto: 6 } },
    { key: { backend_id: 2 }, value: { addr: '10.1.2.2', port: 6443, proto: 6 } },
  ]);
  assert.deepEqual(seen(lbTable(lbRows(frontends, slots, backends))), [
    'ID  FRONTEND       PROTO  CLIENTS  BACKENDS                  FLAGS                AFFINITY_TIMEOUT',
    '7   10.96.0.1:443  TCP             10.1.2.2:6443 (2)                              0',
    '                                   10.1.1.2:6443 (1)',
    '8   [::]:30080     TCP    inside   none: refused             nodeport local       0',
    '9   192.0.2.1:53   UDP    outside  backend 5 is missing (5)  affinity two-scopes  60',
  ]);
});

test('the node’s own addresses and its pods’', () => {
  const value = {
    ifindex: 9,
    identity: 65_800,
    endpoint_id: 4,
    policy_set: 0,
    mac: '02:00:00:00:00:01',
    host_mac: '02:00:00:00:00:02',
    flags: 0,
  };
  const rows = rowsOf([
    { key: { cluster_id: 0, addr: '10.1.1.2' }, value },
    { key: { cluster_id: 0, addr: '172.18.1.2' }, value: { ...value, ifindex: 0, identity: 1, flags: 1 } },
  ]);
  assert.deepEqual(seen(endpointTable(rows)), [
    'NODE  ADDRESS     ENDPOINT  IDENTITY  INTERFACE  POD MAC            NODE MAC           FLAGS',
    'n1    10.1.1.2    4         65800     9          02:00:00:00:00:01  02:00:00:00:00:02',
    'n1    172.18.1.2            host                                                       host',
  ]);
});

test('counters by their names', () => {
  const counts = countRows(
    'n1',
    { ...header, reasons: { 0: 'REASON_FORWARDED', 18: 'DROP_INVALID_SOURCE' } },
    [
      { key: 1, value: { packets: 1_234_567, bytes: 99 } },
      { key: 18 * 4 + 2, value: { packets: 3, bytes: 180 } },
      { key: 60 * 4 + 3, value: { packets: 1, bytes: 1 } },
    ],
  );
  assert.deepEqual(seen(metricsTable(counts)), [
    'NODE  REASON               DIRECTION    PACKETS  BYTES',
    'n1    forwarded            ingress    1,234,567     99',
    'n1    drop invalid source  egress             3    180',
    'n1    reason 60            service            1      1',
  ]);
});

test('lines of a map are read, and a hundred thousand flows are shown in a moment', () => {
  const line = JSON.stringify({ key: flow, value: { expires: 1, identity: 1, service_id: 0, flags: 12 } });
  const text = `${JSON.stringify(header)}\n${`${line}\n`.repeat(100_000)}`;
  const before = process.cpuUsage();
  const { rows } = parseMapLines(text);
  const { titles, rows: cells } = conntrackTable(rowsOf(rows));
  assert.equal(columns(titles, cells).split('\n').length, 100_002);
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 8_000_000, `${user + system} µs of the processor`);
  assert.equal(columns(['A'], [], 'nothing here'), 'nothing here\n');
});
