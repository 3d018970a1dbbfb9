import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import * as z from 'zod';
import { parsePrefix } from '../datapath/address.ts';
import { type RemoteService, sameRemoteService } from '../loadbalancer/remote-service.ts';
import { BadValue } from './bad-value.ts';
import { remoteTables } from './rows.ts';
import { ServiceRows } from './service-rows.ts';
import { entryOf, type SliceInit, sliceBytes, sliceMessage } from './slice.fixture.ts';
import { parseSlice } from './slice-value.ts';
import { type Origin, parseService } from './values.ts';

const eu: Origin = { cluster: 'eu', clusterId: 2, maxClusters: 255 };
const read = <T>(name: string, schema: z.ZodType<T>): T =>
  schema.parse(
    JSON.parse(readFileSync(new URL(`../../test/etcd/fixtures/${name}`, import.meta.url), 'utf8')),
  );

/** What a real Cilium 1.20.2 keeps of the slices of two clusters ca (1) and cb (2). */
const real = read(
  'cilium-1.20.2-slices.json',
  z.array(z.object({ key: z.string(), base64: z.string() })),
).map(({ key, base64 }) => {
  const [, cluster = '', rest = ''] = /^cilium\/state\/endpointslices\/v1\/([^/]+)\/(.*)$/.exec(key) ?? [];
  const origin: Origin = { cluster, clusterId: cluster === 'ca' ? 1 : 2, maxClusters: 255 };
  return { key, rest, bytes: new Uint8Array(Buffer.from(base64, 'base64')), origin };
});

test('the slices that a real Cilium wrote say the same of its services as what it wrote beside them', () => {
  const tables = remoteTables();
  const rows = { ca: new ServiceRows(tables.services), cb: new ServiceRows(tables.services) };
  for (const { key, rest, bytes, origin } of real)
    rows[origin.cluster as 'ca' | 'cb'].slices(origin).put(rest, entryOf({ key, value: bytes }));
  let compared = 0;
  for (const cluster of ['ca', 'cb'] as const) {
    const prefix = `cilium/state/services/v1/${cluster}/`;
    const pairs = z.array(z.object({ key: z.string(), value: z.string() }));
    for (const { key, value } of read(`cilium-1.20.2-${cluster}.json`, pairs)) {
      if (!key.startsWith(prefix)) continue;
      const origin: Origin = { cluster, clusterId: cluster === 'ca' ? 1 : 2, maxClusters: 255 };
      const told = parseService(key, key.slice(prefix.length), value, origin)!;
      const found = tables.services.get(`${cluster}/${told.namespace}/${told.name}`);
      // Of a service without a slice there is nothing to tell.
      if (told.backends.length) assert.ok(sameRemoteService(inOrder(found!), inOrder(told)), key);
      else assert.equal(found, undefined);
      compared++;
    }
  }
  assert.equal(compared, 8);
});

const inOrder = (row: RemoteService): RemoteService => ({
  ...row,
  backends: row.backends.map(part =>
    Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1))),
  ),
});

test('conditions are carried, and what is left out counts as Kubernetes says', () => {
  const slice = parse({
    endpoints: [
      { addresses: ['10.2.0.1'] },
      { addresses: ['10.2.0.2'], conditions: { ready: false } },
      { addresses: ['10.2.0.3'], conditions: { ready: false, serving: true, terminating: true } },
      {
        addresses: ['10.2.0.4'],
        nodeName: 'n1',
        zone: 'eu-a',
        hostname: 'db-0',
        conditions: { ready: true },
      },
      { addresses: [] },
    ],
    ports: [{ name: 'http', port: 8080 }, { protocol: 'UDP', port: 53 }, { name: 'any' }],
  })!;
  assert.deepEqual(
    slice.endpoints.map(({ address, ready, serving, terminating }) => [address, ready, serving, terminating]),
    [
      ['10.2.0.1', true, true, false],
      ['10.2.0.2', false, false, false],
      ['10.2.0.3', false, true, true],
      ['10.2.0.4', true, true, false],
    ],
  );
  const { node, zone, hostname } = slice.endpoints[3]!;
  assert.deepEqual([node, zone, hostname], ['n1', 'eu-a', 'db-0']);
  assert.deepEqual(slice.ports, [
    { name: 'http', protocol: 'TCP', port: 8080 },
    { name: '', protocol: 'UDP', port: 53 },
  ]);
  assert.equal(slice.service, 'shop/cart');
});

test('a slice of no service, and one of endpoints that another cluster tells of, are passed over', () => {
  assert.equal(parse({ labels: {} }), undefined);
  const copied = {
    'kubernetes.io/service-name': 'cart',
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-mesh-controller.cilium.io',
  };
  assert.equal(parse({ labels: copied }), undefined);
});

const bad: readonly (readonly [SliceInit, RegExp])[] = [
  [{ cluster: 'us' }, /k: cluster: found "us", expected "eu"/],
  [{ clusterId: 1 }, /k: clusterID: found 1, expected 2/],
  [{ name: 'cart-b' }, /namespace\/name: found "shop\/cart-b", expected "shop\/cart-a"/],
  [{ namespace: 'us' }, /namespace\/name: found "us\/cart-a"/],
  [{ addressType: 'FQDN' }, /addressType: found "FQDN", expected IPv4 or IPv6/],
  [{ addressType: 'IPv6' }, /endpoints: found "10.2.0.7", expected an IPv6 address/],
  [{ endpoints: [{ addresses: ['fd00::1'] }] }, /endpoints: found "fd00::1", expected an IPv4 address/],
  [{ endpoints: [{ addresses: ['10.2.0'] }] }, /endpoints: found "10.2.0", expected an IP address/],
  [
    { addressType: 'IPv6', endpoints: [{ addresses: ['::ffff:10.1.0.9'] }] },
    /endpoints: found "::ffff:10.1.0.9", expected an IP address/,
  ],
  [{ ports: [{ protocol: 'ICMP', port: 1 }] }, /ports.protocol: found "ICMP", expected TCP, UDP or SCTP/],
  [{ ports: [{ port: 65_536 }] }, /ports.port: found 65536/],
  [
    { labels: { 'kubernetes.io/service-name': 'a/b' } },
    /labels: found "a\/b", expected the name of a Service/,
  ],
  [{ endpoints: Array.from({ length: 1001 }, () => ({})) }, /field 8: found 1001, expected at most 1000/],
];
for (const [change, message] of bad)
  test(`refused: a slice with ${JSON.stringify(change).slice(0, 80)}`, () => {
    assert.throws(
      () => parse(change),
      (error: Error) => error instanceof BadValue && message.test(error.message),
    );
  });

test('what unpacks to more than a slice can be is refused before it is there', () => {
  const refused = (bytes: Uint8Array, expected: RegExp): void =>
    assert.throws(() => parseSlice('k', 'shop/cart-a', bytes, eu), expected);
  const bomb = zstdCompressSync(Buffer.alloc(16 * 2 ** 20));
  assert.ok(bomb.length < 1024);
  refused(bomb, /expected a zstd frame of at most 4194304 bytes/);
  // A frame that says that 128 MiB must be kept to unpack it, and has nothing in it.
  refused(Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0x88, 1, 0, 0), /requires too much memory/);
  // Two bytes for each of two million endpoints, or ports.
  const many = (tag: number) => zstdCompressSync(Buffer.alloc(4 * 2 ** 20 - 2, Uint8Array.of(tag, 0)));
  refused(many(0x42), /field 8: found 2097151, expected at most 1000 elements/);
  refused(many(0x4a), /field 9: found 2097151, expected at most 20000 elements/);
  refused(new Uint8Array(0), /expected a zstd frame/);
  refused(Buffer.from('{"cluster":"eu"}'), /expected a zstd frame/);
});

test('broken slices of every kind are refused by name, and nothing of them is taken', t => {
  let seed = 20_261_122;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (seed >> 4) % below;
  };
  const spoil = (bytes: Uint8Array): Uint8Array => {
    const copy = bytes.slice();
    for (let times = 1 + random(3); times > 0; times--) copy[random(copy.length)] = random(256);
    return random(4) ? copy : copy.subarray(0, random(copy.length));
  };
  const level = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
  let refused = 0;
  const rounds = 1000;
  for (let round = 0; round < rounds; round++) {
    const { key, rest, bytes, origin } = real[random(real.length)]!;
    // Half of them are broken below the frame.
    const broken = random(2) ? spoil(bytes) : zstdCompressSync(spoil(zstdDecompressSync(bytes)), level);
    try {
      const slice = parseSlice(key, rest, broken, origin);
      if (!slice) continue;
      assert.equal(`${slice.namespace}/${slice.name}`, rest);
      for (const { address } of slice.endpoints) parsePrefix(address);
      for (const { port } of slice.ports) assert.ok(port > 0 && port < 65_536);
    } catch (error) {
      assert.ok(error instanceof BadValue, String(error));
      assert.ok(error.message.length < 1000);
      refused++;
    }
  }
  t.diagnostic(`${refused} of ${rounds} were refused`);
  assert.ok(refused > rounds / 4);
});

function parse(change: SliceInit) {
  const message = sliceMessage('eu', 2, 'cart', 'cart-a', ['10.2.0.7']);
  return parseSlice('k', 'shop/cart-a', sliceBytes({ ...message, ...change }), eu);
}
