import assert from 'node:assert/strict';
import { test } from 'node:test';
import { preferByHints } from './topology.ts';

type Endpoint = { name: string; ready: boolean; forNodes: string[]; forZones: string[] };
const endpoint = (name: string, hints: Partial<Endpoint> = {}): Endpoint => ({
  name,
  ready: true,
  forNodes: [],
  forZones: [],
  ...hints,
});
const chosen = (endpoints: Endpoint[], node = 'n1', zone = 'a'): string =>
  preferByHints(endpoints, { node, zone })
    .map(each => each.name)
    .join(' ');

test('without hints: all', () => assert.equal(chosen([endpoint('1'), endpoint('2')]), '1 2'));

test('zone hints on all: those of the zone', () => {
  const all = [
    endpoint('1', { forZones: ['a'] }),
    endpoint('2', { forZones: ['b', 'a'] }),
    endpoint('3', { forZones: ['b'] }),
  ];
  assert.equal(chosen(all), '1 2');
  assert.equal(chosen(all, 'n1', 'b'), '2 3');
  assert.equal(chosen(all, 'n1', 'c'), '1 2 3', 'none is meant for the zone');
  assert.equal(chosen(all, 'n1', ''), '1 2 3', 'the node is in no zone');
  assert.equal(chosen([...all, endpoint('4')]), '1 2 3 4', 'one has no hint');
});

test('an endpoint that is not ready has no say, and stays for when no other is there', () => {
  const all = [
    endpoint('1', { forZones: ['a'] }),
    endpoint('2', { ready: false }),
    endpoint('3', { forZones: ['b'] }),
  ];
  assert.equal(chosen(all), '1 2');
});

test('node hints come before zone hints, and fall back to them', () => {
  const all = [
    endpoint('1', { forNodes: ['n1'], forZones: ['a'] }),
    endpoint('2', { forNodes: ['n2'], forZones: ['a'] }),
    endpoint('3', { forNodes: ['n3'], forZones: ['b'] }),
  ];
  assert.equal(chosen(all, 'n2'), '2');
  assert.equal(chosen(all, 'n9'), '1 2');
  assert.equal(chosen([...all, endpoint('4', { forZones: ['b'] })], 'n2'), '1 2', 'one has no node hint');
});

/** kube-proxy's rules read aloud, one question after the other. */
function model(endpoints: readonly Endpoint[], node: string, zone: string): string[] {
  const ready = endpoints.filter(each => each.ready);
  const nodeMode =
    ready.every(each => each.forNodes.length) && ready.some(each => each.forNodes.includes(node));
  const zoneMode =
    ready.every(each => each.forZones.length) && ready.some(each => each.forZones.includes(zone));
  const usable = ready.filter(each =>
    nodeMode ? each.forNodes.includes(node) : zoneMode ? each.forZones.includes(zone) : true,
  );
  return usable.map(each => each.name);
}

test('random cases agree with the rules read aloud', () => {
  let seed = 7;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % n;
  };
  const some = (names: readonly string[], none: number): string[] =>
    random(none) === 0 ? [] : names.filter(() => random(2) === 0);
  for (let round = 0; round < 3000; round++) {
    const none = [2, 5, 1000][random(3)]!;
    const endpoints = Array.from({ length: random(6) }, (_, n) =>
      endpoint(String(n), {
        ready: random(4) > 0,
        forNodes: some(['n1', 'n2'], none),
        forZones: some(['a', 'b'], none),
      }),
    );
    for (const node of ['n1', 'n2', 'n3'])
      for (const zone of ['a', 'b', ''])
        assert.deepEqual(
          preferByHints(endpoints, { node, zone }).flatMap(each => (each.ready ? [each.name] : [])),
          model(endpoints, node, zone),
        );
  }
});
