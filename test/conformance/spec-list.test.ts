import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sets } from './sets.ts';
import { focusOn, select } from './spec-list.ts';

const specs = {
  conformance: '[sig-network] DNS should provide DNS for services [Conformance]',
  further: '[sig-network] Services should be rejected when no endpoints exist',
  longer: '[sig-network] Services should be rejected when no endpoints exist, also later',
  sctp: '[sig-network] Services should allow creating a basic SCTP service [LinuxOnly] [Serial]',
  loadBalancer:
    '[sig-network] LoadBalancers [Feature:LoadBalancer] should be able to switch session affinity',
  spread: '[sig-network] LoadBalancers [Feature:LoadBalancer] should target all nodes with endpoints',
  other: '[sig-node] Pods should be restarted [Conformance]',
};
const all = Object.values(specs);
const ipv4 = { family: 'ipv4' } as const;

test('a set has the specs of its focus, less those of other sets and those that nobody can run here', () => {
  assert.deepEqual(select(sets.conformance, all, ipv4).specs, [specs.conformance]);
  const extended = select(sets.extended, all, ipv4);
  assert.deepEqual(extended.specs, [specs.further, specs.longer]);
  assert.deepEqual([...extended.leftOut], [['this kernel has no SCTP (CONFIG_IP_SCTP)', [specs.sctp]]]);
  assert.deepEqual(select(sets.loadbalancer, all, ipv4).specs, [specs.loadBalancer, specs.spread]);
  assert.deepEqual(select(sets.l2, all, ipv4).specs, [specs.loadBalancer]);
});

test('--focus and --skip narrow a set, and add nothing to it', () => {
  const { specs: found, leftOut } = select(sets.extended, all, {
    ...ipv4,
    focus: 'rejected|DNS',
    skip: 'later',
  });
  assert.deepEqual(found, [specs.further]);
  assert.equal(leftOut.size, 0);
});

test('specs of dual stack run on dual-stack clusters only', () => {
  const spec = '[sig-network] [Feature:IPv6DualStack] should create a single stack service';
  assert.deepEqual(select(sets.extended, [spec], { family: 'dual' }).specs, [spec]);
  assert.deepEqual(select(sets.extended, [spec], ipv4).specs, []);
});

test('a focus on specs matches them and no others', () => {
  const focus = new RegExp(focusOn([specs.conformance, specs.further]));
  assert.deepEqual(
    all.filter(spec => focus.test(`Kubernetes e2e suite ${spec}`)),
    [specs.conformance, specs.further],
  );
});
