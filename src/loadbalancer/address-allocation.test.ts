import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  CiliumLoadBalancerIPPool,
  inRange,
  type PoolRow,
  poolRow,
} from '../api/crds/load-balancer-ip-pool.ts';
import { formatIp, parseIp } from '../api/ip-address.ts';
import {
  type LoadBalancerService,
  LoadBalancerServiceObject,
  loadBalancerService,
} from '../api/load-balancer-service.ts';
import { serviceKey } from '../api/service.ts';
import { AddressAllocation } from './address-allocation.ts';

function pool(name: string, spec: object, created = '2026-01-01T00:00:00Z'): PoolRow {
  return poolRow(
    CiliumLoadBalancerIPPool.parse({ metadata: { name, uid: name, creationTimestamp: created }, spec }),
  );
}

const blue = pool('blue', { blocks: [{ cidr: '192.0.2.0/30' }] });

interface Wish {
  readonly labels?: Record<string, string>;
  readonly ips?: string;
  readonly key?: string;
  readonly across?: string;
  readonly port?: number;
  readonly local?: boolean;
  readonly families?: readonly string[];
  readonly policy?: string;
  readonly type?: string;
  readonly class?: string;
  readonly present?: readonly string[];
  readonly condition?: boolean;
  readonly created?: string;
}

function service(key: string, wish: Wish = {}): LoadBalancerService {
  const [namespace = '', name = ''] = key.split('/');
  const annotations = {
    ...(wish.ips === undefined ? {} : { 'lbipam.cilium.io/ips': wish.ips }),
    ...(wish.key === undefined ? {} : { 'lbipam.cilium.io/sharing-key': wish.key }),
    ...(wish.across === undefined ? {} : { 'lbipam.cilium.io/sharing-cross-namespace': wish.across }),
  };
  return loadBalancerService(
    LoadBalancerServiceObject.parse({
      metadata: {
        name,
        namespace,
        uid: key,
        creationTimestamp: wish.created ?? '2026-01-01T00:00:00Z',
        labels: wish.labels,
        annotations,
      },
      spec: {
        type: wish.type ?? 'LoadBalancer',
        loadBalancerClass: wish.class,
        ipFamilies: wish.families,
        ipFamilyPolicy: wish.policy,
        externalTrafficPolicy: wish.local ? 'Local' : 'Cluster',
        selector: { app: name },
        ports: [{ port: wish.port ?? 80 }],
      },
      status: {
        loadBalancer: { ingress: (wish.present ?? []).map(ip => ({ ip })) },
        conditions: wish.condition
          ? [{ type: 'cilium.io/IPAMRequestSatisfied', status: 'True', reason: 'satisfied', message: '' }]
          : [],
      },
    }),
    [4, 6],
  );
}

/** What each service gets of the pools, one change for all; address list or reason. */
function outcome(
  pools: readonly PoolRow[],
  services: readonly LoadBalancerService[],
): Record<string, string> {
  const allocation = new AddressAllocation();
  allocation.update({ pools, changed: services });
  return Object.fromEntries(services.map(each => [serviceKey(each), said(allocation, serviceKey(each))]));
}

function said(allocation: AddressAllocation, key: string): string {
  const found = allocation.get(key);
  if (!found) return 'left alone';
  const reason = found.verdict?.satisfied ? [] : [found.verdict?.reason ?? 'removed'];
  return [...found.addresses, ...reason].join(' ');
}

describe('addresses of load balancers', () => {
  it('the lowest free address of the first pool that selects the service', () => {
    const red = pool('red', {
      blocks: [{ start: '198.51.100.7' }, { start: '198.51.100.20', stop: '198.51.100.30' }],
      serviceSelector: { matchLabels: { colour: 'red' } },
    });
    const wishes = [service('a/1'), service('a/2', { labels: { colour: 'red' } }), service('b/3')];
    const onlyRed = {
      ...blue,
      selects: (labels: Readonly<Record<string, string>>) => labels.colour !== 'red',
    };
    assert.deepEqual(outcome([onlyRed, red], wishes), {
      'a/1': '192.0.2.0',
      'a/2': '198.51.100.7',
      'b/3': '192.0.2.1',
    });
  });

  it('name and namespace of a service can be selected by', () => {
    const named = pool('named', {
      blocks: [{ start: '192.0.2.9' }],
      serviceSelector: {
        matchLabels: { 'io.kubernetes.service.namespace': 'a' },
        matchExpressions: [{ key: 'io.kubernetes.service.name', operator: 'In', values: ['web'] }],
      },
    });
    assert.deepEqual(outcome([named], [service('a/web'), service('a/db'), service('b/web')]), {
      'a/web': '192.0.2.9',
      'a/db': 'no_pool',
      'b/web': 'no_pool',
    });
  });

  it('first and last address of a cidr are kept back where the pool says so', () => {
    const kept = pool('kept', { blocks: [{ cidr: '192.0.2.0/30' }], allowFirstLastIPs: 'No' });
    const pair = pool('pair', { blocks: [{ cidr: '192.0.2.0/31' }], allowFirstLastIPs: 'No' });
    assert.deepEqual(
      outcome([kept], [service('a/1'), service('a/2'), service('a/3'), service('a/4', { ips: '192.0.2.3' })]),
      {
        'a/1': '192.0.2.1',
        'a/2': '192.0.2.2',
        'a/3': 'out_of_ips',
        'a/4': 'reserved',
      },
    );
    assert.deepEqual(outcome([pair], [service('a/1')]), { 'a/1': '192.0.2.0' });
    const allocation = new AddressAllocation();
    allocation.update({ pools: [kept], changed: [service('a/1')] });
    assert.deepEqual(
      allocation.pools.map(each => [each.total, each.used]),
      [[2n, 1]],
    );
  });

  it('an address asked for by name, or why it cannot be had', () => {
    const red = pool('red', {
      blocks: [{ start: '198.51.100.7' }],
      serviceSelector: { matchLabels: { colour: 'red' } },
    });
    const off = pool('off', { blocks: [{ start: '203.0.113.1' }], disabled: true });
    assert.deepEqual(
      outcome(
        [blue, red, off],
        [
          service('a/1', { ips: '192.0.2.3, 192.0.2.1' }),
          service('a/2', { ips: '192.0.2.1' }),
          service('a/3', { ips: '198.51.100.7' }),
          service('a/4', { ips: '10.0.0.1' }),
          service('a/5', { ips: '203.0.113.1' }),
          service('a/6', { ips: '192.0.2.x' }),
        ],
      ),
      {
        'a/1': '192.0.2.3 192.0.2.1',
        'a/2': 'already_allocated',
        'a/3': 'pool_selector_mismatch',
        'a/4': 'no_pool',
        'a/5': 'no_pool',
        'a/6': 'invalid_request',
      },
    );
  });

  it('families as the service asks for them', () => {
    const six = pool('six', { blocks: [{ cidr: '2001:db8::/64' }] });
    assert.deepEqual(
      outcome(
        [blue, six],
        [
          service('a/1', { families: ['IPv6'] }),
          service('a/2', { families: ['IPv4', 'IPv6'], policy: 'RequireDualStack' }),
          service('a/3', { families: ['IPv4'], policy: 'SingleStack' }),
        ],
      ),
      { 'a/1': '2001:db8::', 'a/2': '192.0.2.0 2001:db8::1', 'a/3': '192.0.2.1' },
    );
  });

  it('a sharing key shares an address, unless ports, namespaces or policies forbid', () => {
    assert.deepEqual(
      outcome(
        [blue],
        [
          service('a/1', { key: 'k', port: 80, across: 'b' }),
          service('a/2', { key: 'k', port: 81 }),
          service('a/3', { key: 'k', port: 80 }),
          service('a/4', { key: 'k', port: 82, local: true }),
          service('b/1', { key: 'k', port: 83, across: '*' }),
        ],
      ),
      {
        'a/1': '192.0.2.0',
        'a/2': '192.0.2.0',
        'a/3': '192.0.2.1',
        'a/4': '192.0.2.2',
        // a/2 does not allow other namespaces, a/3 neither.
        'b/1': '192.0.2.3',
      },
    );
    assert.equal(
      outcome(
        [blue],
        [
          service('a/1', { key: 'k', port: 80, across: 'b' }),
          service('b/1', { key: 'k', port: 83, across: 'a', ips: '192.0.2.0' }),
        ],
      )['b/1'],
      '192.0.2.0',
    );
  });

  it('pools that overlap: the older one is used, and the younger once the older is gone', () => {
    const young = pool('young', { blocks: [{ cidr: '192.0.2.0/29' }] }, '2026-02-01T00:00:00Z');
    const allocation = new AddressAllocation();
    allocation.update({ pools: [young, blue], changed: [service('a/1')] });
    assert.deepEqual(
      allocation.pools.map(each => [each.pool.name, each.conflict ?? '', each.used]),
      [
        ['blue', '', 1],
        ['young', 'range 192.0.2.0/29 overlaps range 192.0.2.0/30 of the older pool blue', 0],
      ],
    );
    allocation.update({ pools: [young] });
    assert.equal(said(allocation, 'a/1'), '192.0.2.0', 'the address is in the younger pool, too: it stays');
    assert.deepEqual(
      allocation.pools.map(each => [each.conflict, each.used]),
      [[undefined, 1]],
    );
    const twice = pool('twice', { blocks: [{ start: '10.0.0.1', stop: '10.0.0.9' }, { start: '10.0.0.9' }] });
    assert.equal(outcome([twice], [service('a/1')])['a/1'], 'no_pool');
  });

  it('a disabled pool gives nothing more and takes nothing away', () => {
    const allocation = new AddressAllocation();
    allocation.update({ pools: [blue], changed: [service('a/1')] });
    allocation.update({ pools: [{ ...blue, disabled: true }], changed: [service('a/2')] });
    assert.deepEqual([said(allocation, 'a/1'), said(allocation, 'a/2')], ['192.0.2.0', 'no_pool']);
  });

  it('an address that becomes free goes to the oldest that waits', () => {
    const one = pool('one', { blocks: [{ start: '192.0.2.1' }] });
    const allocation = new AddressAllocation();
    const waiting = ['a/2', 'a/3'].map((key, at) =>
      service(key, { created: `2026-01-0${3 - at}T00:00:00Z` }),
    );
    allocation.update({ pools: [one], changed: [service('a/1')] });
    allocation.update({ changed: waiting });
    assert.deepEqual([...allocation.update({ removed: ['a/1'] })], ['a/3']);
    assert.deepEqual([said(allocation, 'a/2'), said(allocation, 'a/3')], ['out_of_ips', '192.0.2.1']);
  });

  it('an operator that starts anew leaves every address where it is', () => {
    const services = [
      service('a/1', { present: ['192.0.2.3'], condition: true }),
      service('a/2', { created: '2025-01-01T00:00:00Z' }),
      service('a/3', { present: ['10.9.9.9'] }),
    ];
    assert.deepEqual(outcome([blue], services), {
      'a/1': '192.0.2.3',
      'a/2': '192.0.2.0',
      'a/3': '192.0.2.1',
    });
  });

  it('services of others are left alone, and all of them while there is no pool', () => {
    assert.deepEqual(
      outcome(
        [blue],
        [
          service('a/1', { class: 'example.com/other', present: ['10.0.0.1'] }),
          service('a/2', { class: 'io.cilium/l2-announcer' }),
          service('a/3', { type: 'ClusterIP' }),
          service('a/4', { type: 'ClusterIP', condition: true, present: ['192.0.2.1'] }),
        ],
      ),
      { 'a/1': 'left alone', 'a/2': '192.0.2.0', 'a/3': 'left alone', 'a/4': 'removed' },
    );
    const allocation = new AddressAllocation();
    allocation.update({ pools: [], changed: [service('a/1', { present: ['10.0.0.1'] })] });
    assert.equal(said(allocation, 'a/1'), 'left alone');
    // Pools that went took their addresses with them.
    allocation.update({ changed: [service('a/2', { present: ['192.0.2.1'], condition: true })] });
    assert.equal(said(allocation, 'a/2'), 'no_pool');
  });

  it('bad blocks are problems of their pool, and its others are used', () => {
    const mixed = pool('mixed', {
      blocks: [
        { cidr: '192.0.2.0/33' },
        { start: '192.0.2.9', stop: '192.0.2.1' },
        { start: '192.0.2.9', stop: '2001:db8::1' },
        {},
        { start: '192.0.2.77' },
      ],
    });
    assert.deepEqual(mixed.problems, [
      'spec.blocks[0]: cidr: found "192.0.2.0/33", expected a prefix such as 192.0.2.0/24',
      'spec.blocks[1]: found start 192.0.2.9 behind stop 192.0.2.1',
      'spec.blocks[2]: found start 192.0.2.9 and stop 2001:db8::1, expected one family',
      'spec.blocks[3]: found neither cidr nor start',
    ]);
    assert.deepEqual(outcome([mixed], [service('a/1')]), { 'a/1': '192.0.2.77' });
  });
});

/**
 * The same rules without any index: after every change all is gone through, from the pools and what each
 * service held before.
 */
class SlowModel {
  pools: readonly PoolRow[] = [];
  services = new Map<string, LoadBalancerService>();
  held = new Map<string, readonly string[]>();

  update(change: {
    pools?: readonly PoolRow[];
    changed?: readonly LoadBalancerService[];
    removed?: readonly string[];
  }): void {
    for (const key of change.removed ?? []) {
      this.services.delete(key);
      this.held.delete(key);
    }
    const changed = new Set((change.changed ?? []).map(serviceKey));
    for (const each of change.changed ?? []) {
      if (!this.services.has(serviceKey(each))) this.held.set(serviceKey(each), each.present);
      this.services.set(serviceKey(each), each);
    }
    this.pools = change.pools ?? this.pools;
    const inOrder = [...this.services.values()].sort(
      (a, b) => order(a.created, b.created) || order(serviceKey(a), serviceKey(b)),
    );
    const claims = this.held;
    this.held = new Map();
    for (const each of [
      ...inOrder.filter(one => !changed.has(serviceKey(one))),
      ...inOrder.filter(one => changed.has(serviceKey(one))),
    ]) {
      const key = serviceKey(each);
      for (const address of claims.get(key) ?? [])
        if (this.mayKeep(each, address))
          this.held.set(key, [...new Set([...(this.held.get(key) ?? []), address])]);
    }
    for (let before = ''; before !== JSON.stringify([...this.held]); ) {
      before = JSON.stringify([...this.held]);
      for (const each of inOrder) this.serve(each);
    }
  }

  usable(): readonly PoolRow[] {
    const good: PoolRow[] = [];
    const sorted = [...this.pools].sort((a, b) => order(a.created, b.created) || order(a.name, b.name));
    for (const row of sorted) {
      const all = [...good.flatMap(each => each.ranges), ...row.ranges];
      const clash = row.ranges.some(a =>
        all.some(b => a !== b && a.family === b.family && a.first <= b.last && b.first <= a.last),
      );
      if (!clash) good.push(row);
    }
    return good;
  }

  mayKeep(each: LoadBalancerService, address: string): boolean {
    const ip = parseIp(address)!;
    const asked = each.requested.length
      ? each.requested.includes(address)
      : each.families.includes(ip.family);
    const inPool = this.pools.some(
      row => row.selects(each.labels) && row.ranges.some(range => inRange(range, ip)),
    );
    return each.ours && (asked || each.problem !== undefined) && inPool && this.shares(each, address);
  }

  shares(each: LoadBalancerService, address: string): boolean {
    return [...this.services.values()].every(other => {
      if (other === each || !this.held.get(serviceKey(other))?.includes(address)) return true;
      const allows = (a: LoadBalancerService, b: LoadBalancerService): boolean =>
        a.namespace === b.namespace || a.sharesWith.some(name => name === '*' || name === b.namespace);
      return (
        each.sharingKey !== '' &&
        each.sharingKey === other.sharingKey &&
        allows(each, other) &&
        allows(other, each) &&
        !each.ports.some(port => other.ports.includes(port)) &&
        each.externalTrafficPolicy === other.externalTrafficPolicy &&
        (each.externalTrafficPolicy !== 'Local' ||
          JSON.stringify(each.selector) === JSON.stringify(other.selector))
      );
    });
  }

  serve(each: LoadBalancerService): void {
    const key = serviceKey(each);
    if (!each.ours || each.problem !== undefined) return;
    const give = (address: string): void => {
      this.held.set(key, [...(this.held.get(key) ?? []), address]);
    };
    const rows = this.usable().filter(row => !row.disabled && row.selects(each.labels));
    const addresses = rows.flatMap(row =>
      row.ranges.flatMap(range => {
        const all = Array.from({ length: Number(range.last - range.first) + 1 }, (_, at) =>
          formatIp({ family: range.family, value: range.first + BigInt(at) }),
        );
        return range.endsReserved ? all.slice(1, -1) : all;
      }),
    );
    if (each.requested.length) {
      for (const address of each.requested)
        if (
          !this.held.get(key)?.includes(address) &&
          addresses.includes(address) &&
          this.shares(each, address)
        )
          give(address);
      return;
    }
    for (const family of each.families) {
      if (this.held.get(key)?.some(address => parseIp(address)!.family === family)) continue;
      const mine = addresses.filter(address => parseIp(address)!.family === family);
      const taken = (address: string): boolean =>
        [...this.held.values()].some(list => list.includes(address));
      const withKey = [...this.services.values()]
        .filter(other => each.sharingKey !== '' && other.sharingKey === each.sharingKey)
        .flatMap(other => this.held.get(serviceKey(other)) ?? []);
      const all = this.usable()
        .filter(row => !row.disabled && row.selects(each.labels))
        .flatMap(row => row.ranges);
      const sharable = withKey
        .filter(address => {
          const ip = parseIp(address)!;
          return ip.family === family && all.some(range => inRange(range, ip)) && this.shares(each, address);
        })
        .sort((a, b) => (parseIp(a)!.value < parseIp(b)!.value ? -1 : 1));
      const found = sharable[0] ?? mine.find(address => !taken(address));
      if (found !== undefined) give(found);
    }
  }
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** A generator of numbers that are the same in every run (xorshift32). */
function numbers(seed: number): (below: number) => number {
  let state = seed * 2654435761 + 1;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

it('after any changes, all is as if everything were gone through again (120 random histories)', () => {
  for (let seed = 1; seed <= 120; seed++) {
    const random = numbers(seed);
    const pick = <T>(...of: readonly T[]): T => of[random(of.length)]!;
    const fast = new AddressAllocation();
    const slow = new SlowModel();
    const pools = new Map<string, PoolRow>();
    const randomService = (): LoadBalancerService =>
      service(`${pick('a', 'b')}/${random(6)}`, {
        created: `2026-01-0${1 + random(3)}T00:00:00Z`,
        labels: { colour: pick('red', 'blue') },
        port: pick(80, 81, 82),
        local: random(6) === 0,
        present: random(4) === 0 ? [`192.0.2.${random(8)}`] : [],
        condition: true,
        families: pick<readonly string[]>(['IPv4'], ['IPv6'], ['IPv4', 'IPv6']),
        policy: pick('SingleStack', 'PreferDualStack'),
        type: random(10) === 0 ? 'ClusterIP' : 'LoadBalancer',
        ...(random(3) === 0
          ? { ips: pick('192.0.2.1', '192.0.2.2,192.0.2.5', '2001:db8::3', '10.0.0.1', 'x') }
          : {}),
        ...(random(2) === 0 ? { key: pick('k', 'l'), across: pick('', 'a', 'b', '*') } : {}),
      });
    const randomPool = (): PoolRow =>
      pool(
        pick('p', 'q', 'r'),
        {
          blocks: [
            pick(
              { cidr: '192.0.2.0/30' },
              { cidr: '192.0.2.4/31' },
              { start: '192.0.2.2', stop: '192.0.2.6' },
            ),
            pick({ cidr: '2001:db8::/126' }, { start: '2001:db8::2', stop: '2001:db8::5' }),
          ],
          allowFirstLastIPs: pick('Yes', 'No'),
          disabled: random(5) === 0,
          ...(random(3) === 0 ? { serviceSelector: { matchLabels: { colour: pick('red', 'blue') } } } : {}),
        },
        `2026-01-0${1 + random(3)}T00:00:00Z`,
      );
    for (let step = 0; step < 40; step++) {
      const change = pick<() => Parameters<SlowModel['update']>[0]>(
        () => ({ changed: [randomService()] }),
        () => ({ changed: [randomService(), randomService()] }),
        () => ({ removed: [`${pick('a', 'b')}/${random(6)}`] }),
        () => {
          const row = randomPool();
          pools.set(row.name, row);
          return { pools: [...pools.values()] };
        },
        () => {
          pools.delete(pick('p', 'q', 'r'));
          return { pools: [...pools.values()], changed: random(2) ? [randomService()] : [] };
        },
      )();
      const distinct = new Map((change.changed ?? []).map(each => [serviceKey(each), each]));
      const once = { ...change, changed: [...distinct.values()] };
      fast.update(once);
      slow.update(once);
      const expected = Object.fromEntries(
        [...slow.services.keys()].map(key => [key, [...(slow.held.get(key) ?? [])].sort()]),
      );
      const found = Object.fromEntries(
        [...slow.services.keys()].map(key => [key, [...(fast.get(key)?.addresses ?? [])].sort()]),
      );
      assert.deepEqual(found, expected, `seed ${seed}, step ${step}`);
      const used = new Set([...slow.held.values()].flat());
      assert.equal(
        fast.pools.reduce((sum, each) => sum + each.used, 0),
        used.size,
        `seed ${seed}, step ${step}: counts`,
      );
    }
  }
});
