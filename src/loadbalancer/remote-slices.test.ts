import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type PresentSlice, type RemoteSlice, remoteSlices } from './remote-slices.ts';

const http = { http: { protocol: 'TCP', port: 8080 } } as const;
const backends = (...addresses: string[]) => [Object.fromEntries(addresses.map(each => [each, http]))];
const ports = [{ name: 'http', protocol: 'TCP', port: 8080 }] as const;
const slice = (name: string, addresses: string[], of: readonly object[] = ports): PresentSlice => ({
  name,
  addressType: 'IPv4',
  ports: of as PresentSlice['ports'],
  addresses,
});
const shown = (slices: readonly RemoteSlice[]): string[] =>
  slices
    .map(each => `${each.name ?? 'new'}: ${each.endpoints.map(({ address }) => address).join(' ')}`)
    .sort();
const many = (count: number, first = 0): string[] =>
  Array.from({ length: count }, (_, n) => `10.2.${Math.floor((first + n) / 200)}.${(first + n) % 200}`);

test('one family and one set of ports to a slice', () => {
  const found = remoteSlices(
    {
      backends: [
        { '10.2.0.7': http, 'fd00:10:2::7': http },
        {
          '10.2.0.8': { http: { protocol: 'TCP', port: 9090 }, dns: { protocol: 'UDP', port: 53 } },
          '10.2.0.9': {},
        },
      ],
      hostnames: { '10.2.0.7': 'db-0', '10.2.0.9': 'Not a label' },
    },
    [],
  );
  assert.deepEqual(
    found.map(each => [
      each.addressType,
      each.ports.map(({ name, port }) => `${name}:${port}`),
      each.endpoints,
    ]),
    [
      ['IPv4', ['http:8080'], [{ address: '10.2.0.7', hostname: 'db-0' }]],
      ['IPv6', ['http:8080'], [{ address: 'fd00:10:2::7', hostname: '' }]],
      ['IPv4', ['dns:53', 'http:9090'], [{ address: '10.2.0.8', hostname: '' }]],
      ['IPv4', [], [{ address: '10.2.0.9', hostname: '' }]],
    ],
  );
});

test('a port that an API server would refuse is left out', () => {
  const [found] = remoteSlices(
    {
      backends: [
        { '10.2.0.7': { ...http, 'A b': { protocol: 'TCP', port: 1 }, none: { protocol: 'TCP', port: 0 } } },
      ],
    },
    [],
  );
  assert.deepEqual(found?.ports, ports);
});

test('no slice has more than 100 endpoints', () => {
  const found = remoteSlices({ backends: backends(...many(250)) }, []);
  assert.deepEqual(
    found.map(each => each.endpoints.length),
    [100, 100, 50],
  );
  assert.equal(new Set(found.flatMap(each => each.endpoints.map(({ address }) => address))).size, 250);
});

test('an endpoint stays where it is; one that is new goes where there is room; an empty slice goes', () => {
  const present = [slice('a', ['10.2.0.1', '10.2.0.2']), slice('b', ['10.2.0.3']), slice('c', ['10.2.0.4'])];
  assert.deepEqual(
    shown(remoteSlices({ backends: backends('10.2.0.1', '10.2.0.2', '10.2.0.3', '10.2.0.9') }, present)),
    ['a: 10.2.0.1 10.2.0.2 10.2.0.9', 'b: 10.2.0.3'],
  );
});

test('a full slice is followed by a new one, and is not written', () => {
  const full = many(100);
  const found = remoteSlices({ backends: backends(...full, '10.9.0.1') }, [slice('a', full)]);
  assert.deepEqual(shown(found), [`a: ${[...full].sort().join(' ')}`, 'new: 10.9.0.1']);
});

test('an endpoint that is in two slices stays in one; one whose ports changed moves', () => {
  const twice = [slice('a', ['10.2.0.1']), slice('b', ['10.2.0.1'])];
  assert.deepEqual(shown(remoteSlices({ backends: backends('10.2.0.1') }, twice)), ['a: 10.2.0.1']);
  const other = [slice('a', ['10.2.0.1'], [{ name: 'http', protocol: 'TCP', port: 1 }])];
  assert.deepEqual(shown(remoteSlices({ backends: backends('10.2.0.1') }, other)), ['new: 10.2.0.1']);
});

test('what was made is left as it is', () => {
  const wanted = { backends: backends(...many(150), ...many(20, 300)) };
  const made = remoteSlices(wanted, []).map((each, n) =>
    slice(
      `s${n}`,
      each.endpoints.map(({ address }) => address),
    ),
  );
  const again = remoteSlices(wanted, made);
  assert.deepEqual(
    shown(again),
    made.map(each => `${each.name}: ${each.addresses.join(' ')}`),
  );
});
