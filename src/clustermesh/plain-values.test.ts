import assert from 'node:assert/strict';
import { test } from 'node:test';
import type * as z from 'zod';
import { addressSchema, plainAddress } from './address-value.ts';
import { nodeSchema, plainNode } from './node-value.ts';
import { plainService, serviceSchema } from './service-value.ts';

const http = { http: { Protocol: 'TCP', Port: 8080 } };
const address = {
  IP: '10.2.0.9',
  Mask: null,
  HostIP: '192.168.0.2',
  ID: 131_372,
  Key: 0,
  Metadata: '',
  K8sNamespace: 'shop',
  K8sPodName: 'cart-0',
};
const service = {
  cluster: 'eu',
  namespace: 'shop',
  name: 'cart',
  frontends: { '10.96.0.7': http },
  backends: { '10.2.0.9': http, '10.2.0.10': {} },
  terminating: null,
  labels: {},
  shared: true,
  clusterID: 2,
};
const node = {
  Name: 'n',
  Cluster: 'eu',
  IPAddresses: [{ Type: 'InternalIP', IP: '192.168.0.2' }],
  IPv4AllocCIDR: { IP: '10.2.0.0', Mask: '////AA==' },
  IPv6AllocCIDR: null,
  IPv4SecondaryAllocCIDRs: null,
  IPv6SecondaryAllocCIDRs: null,
  ClusterID: 2,
  Labels: { a: 'b' },
  Annotations: null,
};
/** What JSON can say, and a field may not. */
const odd = ['', 'x', -1, 0, 255, 256, 1.5, 2 ** 53, true, null, undefined, [], [1], {}, { a: 1 }];

/** The short way says what the schema says, or leaves it to the schema. */
function compare<T>(value: unknown, schema: z.ZodType<T>, plain: (value: unknown) => T | undefined): boolean {
  const found = plain(value);
  if (found === undefined) return false;
  const parsed = schema.safeParse(value);
  assert.ok(parsed.success, `the schema refuses ${JSON.stringify(value)}`);
  // A field that is undefined is as good as none.
  assert.deepEqual(JSON.parse(JSON.stringify(found)), JSON.parse(JSON.stringify(parsed.data)));
  return true;
}

test('what is wrong with an address, or unusual, is for the schema to say', () => {
  assert.ok(compare(address, addressSchema, plainAddress));
  for (const value of odd) compare(value, addressSchema, plainAddress);
  for (const field of [...Object.keys(addressSchema.shape), 'other', '__proto__'])
    for (const value of odd) {
      compare({ ...address, [field]: value }, addressSchema, plainAddress);
      const text = JSON.stringify({ ...address, [field]: undefined, FIELD: value }).replace('FIELD', field);
      compare(JSON.parse(text), addressSchema, plainAddress);
    }
});

test('what is wrong with a node, or unusual, is for the schema to say', () => {
  assert.ok(compare(node, nodeSchema, plainNode));
  for (const value of odd) compare(value, nodeSchema, plainNode);
  for (const field of [...Object.keys(nodeSchema.shape), 'other', '__proto__'])
    for (const value of odd)
      for (const inside of [
        value,
        [value],
        { a: value },
        { IP: value, Mask: value },
        [{ Type: 'x', IP: value }],
      ]) {
        compare({ ...node, [field]: inside }, nodeSchema, plainNode);
        const text = JSON.stringify({ ...node, [field]: undefined, FIELD: inside }).replace('FIELD', field);
        compare(JSON.parse(text), nodeSchema, plainNode);
      }
});

test('what is wrong with a service, or unusual, is for the schema to say', () => {
  assert.ok(compare(service, serviceSchema, plainService));
  for (const value of odd) compare(value, serviceSchema, plainService);
  for (const field of [...Object.keys(serviceSchema.shape), 'other', '__proto__'])
    for (const value of odd) {
      const ports = [
        { ...http.http, Port: value },
        { ...http.http, Protocol: value },
        { ...http.http, x: value },
      ];
      for (const inside of [
        value,
        ...[value, { http: value }, ...ports.map(each => ({ http: each }))].map(each => ({
          '10.2.0.9': each,
        })),
      ])
        compare({ ...service, [field]: inside }, serviceSchema, plainService);
      const text = JSON.stringify({ ...service, [field]: undefined, FIELD: { __proto: value } });
      compare(
        JSON.parse(text.replace('FIELD', field).replace('__proto', '__proto__')),
        serviceSchema,
        plainService,
      );
    }
});
