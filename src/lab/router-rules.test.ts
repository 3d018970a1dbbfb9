import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultConfig } from './config.ts';
import type { FaultSpec } from './fault-spec.ts';
import { linksOf } from './link.ts';
import { planLab } from './plan.ts';
import { routerRules } from './router-rules.ts';

const plan = planLab('isthmus', defaultConfig(), {
  prefixes: [],
  contexts: new Set(),
  machineID: () => '0'.repeat(32),
});

/** The rules that drop, without the frame around them. */
function drops(...faults: FaultSpec[]): string[] {
  return routerRules(plan, faults)
    .split('\n')
    .map(line => line.trim())
    .filter(line => line.endsWith('drop'));
}

test('without faults the router has no rules at all', () => {
  assert.doesNotMatch(routerRules(plan, []), /chain/);
  assert.doesNotMatch(routerRules(plan, [{ kind: 'pause', target: 'us' }]), /chain/);
});

test('a cluster is cut from the others, both ways, and not from this machine', () => {
  assert.deepEqual(drops({ kind: 'cut', target: 'us' }), [
    'meta mark { 0x101, 0x102, 0x103 } oifname { "c2n0", "c2n1", "c2n2" } drop',
    'meta mark { 0x201, 0x202, 0x203 } oifname { "c1n0", "c1n1", "c1n2" } drop',
    'meta mark { 0x101, 0x102, 0x103 } ip daddr { 172.18.2.0/24 } drop',
    'meta mark { 0x201, 0x202, 0x203 } ip daddr { 172.18.1.0/24 } drop',
  ]);
});

test('of dual stack both families are cut', () => {
  const config = defaultConfig();
  const dual = planLab(
    'isthmus',
    { ...config, clusters: config.clusters.map(each => ({ ...each, ipFamily: 'dual' as const })) },
    { prefixes: [], contexts: new Set(), machineID: () => '0'.repeat(32) },
  );
  const rules = routerRules(dual, [
    { kind: 'cut', target: 'us' },
    { kind: 'cut', target: 'eu:apiserver' },
  ]);
  for (const rule of [
    'meta mark { 0x101, 0x102, 0x103 } ip daddr { 172.18.2.0/24 } drop',
    'meta mark { 0x101, 0x102, 0x103 } ip6 daddr { fd6c:6162:12:2::/64 } drop',
    'ip6 daddr fd6c:6162:12:2::2 tcp dport 6443 drop',
    'ether type ip6 ip6 daddr fd6c:6162:12:2::2 tcp dport 6443 drop',
  ])
    assert.ok(rules.includes(`    ${rule}\n`), rule);
});

test('a node is cut from everything, this machine too', () => {
  const rules = drops({ kind: 'cut', target: 'us/us-worker' });
  assert.ok(rules.includes('meta mark { 0x102 } oifname "host0" drop'));
  assert.ok(
    rules.some(rule => rule.startsWith('meta mark { 0x101, 0x103, 0x201, 0x202, 0x203, 0xffff } ip daddr')),
  );
});

test('a cut to or from goes one way', () => {
  assert.deepEqual(drops({ kind: 'cut', target: 'us/us-worker', to: 'eu' }), [
    'meta mark { 0x102 } oifname { "c2n0", "c2n1", "c2n2" } drop',
    'meta mark { 0x102 } ip daddr { 172.18.2.0/24 } drop',
  ]);
  assert.deepEqual(drops({ kind: 'cut', target: 'us/us-worker', from: 'host' }), [
    'meta mark { 0xffff } oifname { "c1n1" } drop',
    'meta mark { 0xffff } ip daddr { 172.18.1.3 } drop',
  ]);
});

test('an API server is cut at its port', () => {
  assert.deepEqual(drops({ kind: 'cut', target: 'us/us-control-plane:apiserver' }), [
    'ether type ip ip daddr 172.18.1.2 tcp dport 6443 drop',
    'ether type ip ip saddr 172.18.1.2 tcp sport 6443 drop',
    'ip daddr 172.18.1.2 tcp dport 6443 drop',
    'ip saddr 172.18.1.2 tcp sport 6443 drop',
  ]);
});

test('a link loses packets in both directions', () => {
  assert.deepEqual(drops({ kind: 'lose', link: 'us-eu', percent: 0.5 }), [
    'iifname "c1" ip daddr 172.18.2.0/24 numgen random mod 1000000 < 5000 drop',
    'iifname "c2" ip daddr 172.18.1.0/24 numgen random mod 1000000 < 5000 drop',
  ]);
});

test('a slow link is shaped behind its relay', () => {
  const text = routerRules(plan, [{ kind: 'rate', link: 'us-eu', bitsPerSecond: 1e8 }]);
  assert.match(text, /iifname \{ "c1", "slow1-2" \} oifname "c2" meta priority set 1:11/);
  assert.match(text, /iifname \{ "c2", "slow1-2" \} oifname "c1" meta priority set 1:12/);
});

test('faults lie on top of what the configuration says of a link, the last one wins', () => {
  const configured = { ...plan, links: [{ between: ['eu', 'us'] as [string, string], delay: 40, loss: 1 }] };
  const read = (...faults: FaultSpec[]) => {
    const [link] = linksOf(configured, faults);
    return [link?.delay, link?.loss, link?.rate];
  };
  assert.deepEqual(read(), [40, 1, undefined]);
  assert.deepEqual(
    read(
      { kind: 'slow', link: 'us-eu', milliseconds: 5 },
      { kind: 'slow', link: 'us-eu', milliseconds: 80 },
      { kind: 'rate', link: 'us-eu', bitsPerSecond: 1e6 },
    ),
    [80, 1, 1e6],
  );
});
