import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpointSliceSchema, plainEndpointSlice, toEndpointSlice } from './endpoint-slice.ts';

const endpoint = {
  addresses: ['10.1.0.9', '10.1.0.10'],
  conditions: { ready: true, serving: true, terminating: false },
  hostname: 'db-0',
  nodeName: 'n1',
  zone: 'a',
  hints: { forZones: [{ name: 'a' }], forNodes: [{ name: 'n1' }] },
  targetRef: { kind: 'Pod' },
};
const slice = {
  metadata: { name: 'cart-x', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'cart' }, uid: 'u' },
  addressType: 'IPv4',
  endpoints: [endpoint, { addresses: ['10.1.0.11'] }, { addresses: [] }],
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }, {}],
};
/** What JSON can say, and a field may not. */
const odd = [
  '',
  'x',
  'TCP',
  -1,
  0,
  65_535,
  65_536,
  1.5,
  true,
  null,
  undefined,
  [],
  [1],
  ['x'],
  {},
  { name: 1 },
  [{}],
];

/** The short way gives the row that the schema gives, or leaves it to the schema. */
function isPlain(value: unknown): boolean {
  const found = plainEndpointSlice(value);
  if (found === undefined) return false;
  const parsed = endpointSliceSchema.safeParse(value);
  assert.ok(parsed.success, `the schema refuses ${JSON.stringify(value)}`);
  assert.deepEqual(toEndpointSlice(found), toEndpointSlice(parsed.data));
  return true;
}

test('what is wrong with a slice, or unusual, is for the schema to say', () => {
  assert.ok(isPlain(slice));
  assert.ok(isPlain({ metadata: { name: 'a', namespace: 'b' }, addressType: 'FQDN' }));
  const [port] = slice.ports;
  for (const value of odd) {
    isPlain(value);
    for (const field of Object.keys(slice)) isPlain({ ...slice, [field]: value });
    for (const field of Object.keys(slice.metadata))
      isPlain({ ...slice, metadata: { ...slice.metadata, [field]: value } });
    isPlain({ ...slice, metadata: { ...slice.metadata, labels: { any: value } } });
    for (const each of [value, ...Object.keys(endpoint).map(field => ({ ...endpoint, [field]: value }))])
      isPlain({ ...slice, endpoints: [endpoint, each] });
    for (const [outer, inner] of [
      'conditions.ready',
      'conditions.serving',
      'conditions.terminating',
      'hints.forZones',
      'hints.forNodes',
    ].map(each => each.split('.')))
      isPlain({ ...slice, endpoints: [{ ...endpoint, [outer!]: { [inner!]: value } }] });
    for (const each of [value, ...Object.keys(port!).map(field => ({ ...port, [field]: value }))])
      isPlain({ ...slice, ports: [port, each] });
  }
});
