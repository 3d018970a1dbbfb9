import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createIpam, firstAddress } from './ipam.ts';

describe('IPAM', () => {
  it('leaves out network, broadcast and reserved addresses', () => {
    const ipam = createIpam({ cidrs: ['10.1.2.0/29'], reserved: ['10.1.2.1'], now: () => 0 });
    const given = Array.from({ length: 6 }, (_, at) => ipam.allocate(`p${at}`));
    assert.deepEqual(given, ['10.1.2.2', '10.1.2.3', '10.1.2.4', '10.1.2.5', '10.1.2.6', undefined]);
    assert.equal(ipam.capacity, 5);
    assert.equal(ipam.used, 5);
    assert.equal(firstAddress('10.1.2.7/29'), '10.1.2.1');
  });

  it('gives an owner the same address again', () => {
    const ipam = createIpam({ cidrs: ['10.1.2.0/24'], now: () => 0 });
    assert.equal(ipam.allocate('a'), ipam.allocate('a'));
    assert.equal(ipam.used, 1);
  });

  it('rests a released address, and gives the longest rested one when no other is left', () => {
    let now = 0;
    const ipam = createIpam({ cidrs: ['10.1.2.0/29'], now: () => now, reuseAfter: 1000 });
    for (let at = 0; at < 6; at++) ipam.allocate(`p${at}`);
    now = 10;
    ipam.release('p3');
    now = 20;
    ipam.release('p1');
    assert.equal(ipam.allocate('q'), '10.1.2.4');
    assert.equal(ipam.allocate('r'), '10.1.2.2');
    assert.equal(ipam.allocate('s'), undefined);
    assert.equal(ipam.release('nobody'), false);
  });

  it('moves on through all CIDRs before it comes back', () => {
    let now = 0;
    const ipam = createIpam({ cidrs: ['10.1.2.0/30', '10.9.0.0/30'], now: () => now, reuseAfter: 5 });
    const given: (string | undefined)[] = [];
    for (let at = 0; at < 5; at++) {
      given.push(ipam.allocate('p'));
      ipam.release('p');
      now += 10;
    }
    assert.deepEqual(given, ['10.1.2.1', '10.1.2.2', '10.9.0.1', '10.9.0.2', '10.1.2.1']);
  });

  it('takes claims at start, refuses a second owner, and goes on after them', () => {
    const ipam = createIpam({ cidrs: ['10.1.2.0/24'], reserved: ['10.1.2.1'], now: () => 0 });
    assert.equal(ipam.claim('10.1.2.9', 'a'), true);
    assert.equal(ipam.claim('10.1.2.9', 'b'), false);
    assert.equal(ipam.claim('10.1.2.9', 'a'), true);
    assert.equal(ipam.claim('172.16.0.1', 'outside'), true);
    assert.equal(ipam.allocate('c'), '10.1.2.10');
  });

  it('gives addresses of IPv6 from a range that no number counts', () => {
    const ipam = createIpam({ cidrs: ['fd00:10:1:2::/64'], reserved: ['fd00:10:1:2::1'], now: () => 0 });
    assert.equal(firstAddress('fd00:10:1:2::/64'), 'fd00:10:1:2::1');
    assert.equal(ipam.claim('fd00:10:1:2::ff', 'old'), true);
    assert.deepEqual([ipam.allocate('a'), ipam.allocate('b')], ['fd00:10:1:2::100', 'fd00:10:1:2::101']);
    assert.equal(ipam.allocate('a'), 'fd00:10:1:2::100');
    assert.ok(ipam.capacity > 2 ** 63);
    assert.throws(() => ipam.claim('10.1.0.1', 'c'), /10\.1\.0\.1 is no IPv6 address/);
    assert.throws(
      () => createIpam({ cidrs: ['10.1.0.0/24', 'fd00::/64'], now: () => 0 }),
      /not of one family/,
    );
  });

  it('never gives one address to two owners (random model)', () => {
    let seed = 42;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
      return (seed >>> 8) % below;
    };
    for (let round = 0; round < 30; round++) {
      let now = 0;
      const reuseAfter = random(200);
      const cidrs = round % 2 ? ['10.1.2.0/27', '10.7.0.0/28'] : ['10.1.2.0/26'];
      const reserved = [firstAddress(cidrs[0]!)];
      const ipam = createIpam({ cidrs, reserved, reuseAfter, now: () => now });
      const model = new Map<string, string>();
      const released = new Map<string, number>();
      for (let step = 0; step < 3000; step++) {
        now += random(20);
        const owner = `o${random(80)}`;
        if (random(3) < 2) {
          const before = model.get(owner);
          const address = ipam.allocate(owner);
          if (before !== undefined) assert.equal(address, before);
          else if (address === undefined) assert.equal(model.size, ipam.capacity);
          else {
            assert.ok(![...model.values()].includes(address), `${address} given twice`);
            assert.ok(!reserved.includes(address) && !/\.(0|63)$/.test(address));
            const rested = now - (released.get(address) ?? -Infinity);
            const others = [...released.keys()].length < ipam.capacity;
            if (rested < reuseAfter && others) assert.equal(model.size + resting(), ipam.capacity);
            model.set(owner, address);
          }
        } else {
          const address = model.get(owner);
          assert.equal(ipam.release(owner), address !== undefined);
          if (address !== undefined) released.set(address, now);
          model.delete(owner);
        }
        assert.equal(ipam.used, model.size);
        function resting(): number {
          const held = new Set(model.values());
          return [...released].filter(([each, at]) => !held.has(each) && now - at < reuseAfter).length;
        }
      }
    }
  });
});
