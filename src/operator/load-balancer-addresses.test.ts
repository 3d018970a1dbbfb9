import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CLEANUP_FINALIZER,
  type LoadBalancerService,
  LoadBalancerServiceObject,
  loadBalancerService,
} from '../api/load-balancer-service.ts';
import type { Assignment } from '../loadbalancer/address-allocation.ts';
import { serviceFix } from './load-balancer-addresses.ts';

const address = '192.0.2.1';
const served: Assignment = {
  addresses: [address],
  verdict: { satisfied: true, reason: 'satisfied', message: '' },
};
const missing: Assignment = {
  addresses: [],
  verdict: { satisfied: false, reason: 'no_pool', message: 'there is none' },
};
const withdrawn: Assignment = { addresses: [], verdict: undefined };

function service(has: {
  readonly address?: boolean;
  readonly finalizer?: boolean;
  readonly deleted?: boolean;
}): LoadBalancerService {
  return loadBalancerService(
    LoadBalancerServiceObject.parse({
      metadata: {
        name: 'front',
        namespace: 'default',
        uid: 'u',
        generation: 1,
        finalizers: has.finalizer ? ['example.com/other', CLEANUP_FINALIZER] : null,
        deletionTimestamp: has.deleted ? '2026-01-01T00:00:00Z' : null,
      },
      spec: { type: 'LoadBalancer' },
      ...(has.address && {
        status: {
          loadBalancer: { ingress: [{ ip: address }] },
          conditions: [
            {
              type: 'cilium.io/IPAMRequestSatisfied',
              status: 'True',
              reason: 'satisfied',
              message: '',
              observedGeneration: 1,
            },
          ],
        },
      }),
    }),
    [4],
  );
}

/** What becomes of the finalizer; undefined: nothing is written at all. */
function finalizer(
  has: Parameters<typeof service>[0],
  assignment: Assignment,
  enabled: boolean,
): string | undefined {
  const fix = serviceFix(service(has), assignment, enabled);
  return fix && (fix.finalizer ?? 'stays');
}

test('a load balancer has the finalizer for as long as it has its address', () => {
  assert.equal(finalizer({}, served, true), 'add');
  assert.equal(finalizer({ address: true }, served, true), 'add');
  assert.equal(finalizer({ address: true, finalizer: true }, served, true), undefined);
  assert.equal(finalizer({ address: true, finalizer: true }, withdrawn, true), 'remove');
  assert.equal(finalizer({ address: true, finalizer: true }, missing, true), 'remove');
});

test('a deleted load balancer is let go, and is not held again', () => {
  assert.equal(finalizer({ address: true, finalizer: true, deleted: true }, served, true), 'remove');
  assert.equal(finalizer({ address: true, deleted: true }, served, true), undefined);
});

test('by default no finalizer is set, and those set before go', () => {
  assert.equal(finalizer({}, served, false), 'stays');
  assert.equal(finalizer({ address: true }, served, false), undefined);
  assert.equal(finalizer({ address: true, finalizer: true }, served, false), 'remove');
});

test("the finalizer of another's load balancer stays", () => {
  assert.equal(finalizer({ finalizer: true }, missing, true), 'stays');
  assert.equal(finalizer({ finalizer: true, deleted: true }, missing, false), 'stays');
});
