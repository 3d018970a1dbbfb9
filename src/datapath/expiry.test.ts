import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, before, test } from 'node:test';
import { parse } from './address.ts';
import { deleteExpired, monotonicSeconds } from './expiry.ts';
import type { BpfMap } from './map.ts';
import { udp } from './packet.fixture.ts';
import { createPrograms, POD, type Programs, ports, WORLD } from './programs.fixture.ts';

interface Row {
  readonly expires: number;
  readonly identity: number;
  readonly service_id: number;
  readonly flags: number;
  readonly pad: number;
}

let programs: Programs;
let map: BpfMap<object, Row>;
before(async () => {
  programs = await createPrograms();
  map = programs.datapath.map<object, Row>('conntrack');
});
after(() => programs?.[Symbol.dispose]());

const flow = (n: number): object => ({
  saddr: parse(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`),
  daddr: parse('10.96.0.1'),
  sport: 1,
  dport: 2,
  cluster_id: 0,
  proto: 6,
  pad: 0,
});
const fill = (count: number, expires: (n: number) => number): void =>
  map.updateBatch(
    Array.from({ length: count }, (_, n) => [
      flow(n),
      { expires: expires(n) >>> 0, identity: 0, service_id: 0, flags: 0, pad: 0 },
    ]),
  );

test('rows whose time is over go, others stay, also where the clock’s 32 bits come round', async () => {
  for (const now of [100_000, 2 ** 32 + 3]) {
    fill(3000, n => now + (n % 3) * 20 - 20);
    const found = await deleteExpired(map, { now, grace: 5, slice: 5 });
    assert.deepEqual([found.rows, found.expired], [2000, 1000]);
    const left = [...map.entries()].map(([, { expires }]) => (expires - now) | 0);
    assert.deepEqual([...new Set(left)].sort(), [0, 20]);
    assert.deepEqual((await deleteExpired(map, { now: now + 100, grace: 5, slice: 5 })).rows, 0);
  }
});

test('the programs’ clock is ours', async () => {
  programs.send('from_pod', udp(ports(POD, WORLD)));
  const [[, row] = []] = [...map.entries()];
  assert.ok(
    row && Math.abs(row.expires - 60 - monotonicSeconds()) <= 1,
    `${row?.expires} ${monotonicSeconds()}`,
  );
  programs.forget();
});

test('a key that another walk deleted meanwhile is passed over', () => {
  fill(10, () => 0);
  const [batch] = [...map.batches(1024)];
  assert.equal(batch?.count, 10);
  for (const n of [0, 4, 5, 9]) map.delete(flow(n));
  map.deleteBatch(batch!.keys, 10);
  assert.equal([...map.entries()].length, 0);
});

test('a full table is walked in small turns of the event loop', async t => {
  const now = 100_000;
  for (const [dead, name] of [
    [0.01, 'nearly nothing expired'],
    [0.9, 'nearly everything expired'],
  ] as const) {
    fill(100_000, n => (n % 100 < dead * 100 ? now - 100 : now + 100));
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const cpu = process.cpuUsage();
    const { rows, expired, work } = await deleteExpired(map, { now, grace: 5, slice: 4 });
    const { user, system } = process.cpuUsage(cpu);
    delay.disable();
    assert.ok(rows + expired > 95_000 && expired > dead * 90_000);
    t.diagnostic(
      `${name}: ${rows + expired} rows, ${expired} expired: ${work.toFixed(0)} ms of work, ${((user + system) / 1000).toFixed(0)} ms of CPU, longest turn ${(delay.max / 1e6).toFixed(0)} ms`,
    );
  }
});
