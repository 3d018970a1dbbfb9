import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clusterProbers, clusterTargets, probedBy, probersOf, ringOf } from './probers.ts';

const names = (count: number): string[] => Array.from({ length: count }, (_, at) => `node-${at}`);
const nobody = (): boolean => false;

test('each node is probed by three others, and each probes three', () => {
  for (const count of [1, 2, 3, 4, 5, 50]) {
    const ring = ringOf(names(count));
    const expected = Math.min(3, count - 1);
    for (const node of ring) {
      assert.equal(probersOf(ring, node, nobody).length, expected);
      assert.equal(probedBy(ring, node, nobody).length, expected);
      assert.ok(!probersOf(ring, node, nobody).includes(node));
    }
  }
});

test('both directions agree, whoever is dead', () => {
  const ring = ringOf(names(12));
  for (const dead of [[], [ring[3]], [ring[3], ring[4]], [ring[0], ring[1], ring[2], ring[11]]]) {
    const isDead = (node: string): boolean => dead.includes(node);
    for (const node of ring)
      for (const other of ring)
        if (!isDead(other))
          assert.equal(
            probersOf(ring, node, isDead).includes(other),
            probedBy(ring, other, isDead).includes(node),
            `${other} probes ${node}`,
          );
  }
});

test('the order of names does not matter, and a node that comes changes duties of its neighbours alone', () => {
  const before = ringOf(names(100));
  assert.deepEqual(ringOf(names(100).reverse()), before);
  const after = ringOf([...names(100), 'late']);
  const moved = before.filter(
    node => probersOf(before, node, nobody).join() !== probersOf(after, node, nobody).join(),
  );
  assert.equal(moved.length, 3);
});

test('a few nodes probe a few nodes of another cluster, not the same of each', () => {
  const ring = ringOf(names(50));
  const probers = clusterProbers('eu', ring, nobody);
  assert.equal(probers.length, 3);
  const without = clusterProbers('eu', ring, node => node === probers[0]);
  assert.deepEqual(without.slice(0, 2), probers.slice(1));
  assert.notDeepEqual(clusterProbers('ap', ring, nobody), probers);
  assert.deepEqual(clusterProbers('eu', ringOf(['one']), nobody), ['one']);
  const duties = new Set(names(250).flatMap(cluster => clusterProbers(cluster, ring, nobody)));
  assert.ok(duties.size > 40, `250 clusters are spread over ${duties.size} of 50 nodes`);
  const targets = probers.map(prober => clusterTargets(prober, 'eu', names(50)));
  assert.ok(new Set(targets.flat()).size > 3);
  assert.ok(targets.every(each => each.length === 3));
  assert.deepEqual(clusterTargets('a', 'eu', ['one']), ['one']);
});

test('duties of 5,000 nodes are known in a moment', () => {
  const many = names(5000);
  const started = process.cpuUsage();
  const ring = ringOf(many);
  probedBy(ring, many[17]!, nobody);
  const { user } = process.cpuUsage(started);
  console.log(`5,000 nodes: ${(user / 1000).toFixed(0)} ms of processor time`);
});
