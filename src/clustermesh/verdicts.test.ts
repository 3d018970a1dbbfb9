import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import { formatUnreachable, unreachableAnnotation } from '../api/unreachable.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { deriveVerdicts } from './verdict-tables.ts';
import { type Accusation, judgeClusters, judgeNodes, judgeRemoteNodes } from './verdicts.ts';

const nodes = (count: number): Set<string> => new Set(Array.from({ length: count }, (_, at) => `n${at}`));

/** 'n1: n2 n3' is what n1 says. */
const said = (...lines: string[]): Accusation[] =>
  lines.map(line => {
    const [by = '', rest = ''] = line.split(':');
    return { by, nodes: rest.trim().split(/ +/), clusters: [], remoteNodes: [] };
  });

/** 'n2 n3?' : n2 is dead, n3 looks so and is kept. */
const judge = (count: number, accusations: Accusation[], before: string[] = []): string =>
  judgeNodes(accusations, nodes(count), node => before.includes(node))
    .map(({ node, dead }) => `${node}${dead ? '' : '?'}`)
    .join(' ');

const cases: readonly [what: string, count: number, said: string[], verdict: string, before?: string[]][] = [
  ['two of three probers agree', 5, ['n1: n0', 'n2: n0'], 'n0'],
  ['one is not enough', 5, ['n1: n0'], ''],
  ['nobody speaks for himself', 5, ['n1: n0', 'n0: n0'], ''],
  ['the word of one who has left does not count', 2, ['n1: n0', 'n7: n0'], 'n0'],
  ['nor does a word on one who has left', 5, ['n1: n9', 'n2: n9'], ''],
  [
    'what a dead node said before does not count',
    5,
    ['n1: n0', 'n2: n0', 'n0: n1 n2', 'n3: n1'],
    'n0',
    ['n0'],
  ],
  ['in a cluster of three both others have to agree', 3, ['n1: n0', 'n2: n0'], 'n0'],
  ['in a cluster of three one is not enough', 3, ['n1: n0'], ''],
  ['in a cluster of two the other one judges', 2, ['n1: n0'], 'n0'],
  ['two nodes that do not hear each other are both kept', 2, ['n1: n0', 'n0: n1'], 'n0? n1?'],
  ['most look dead: all are kept', 5, ['n1: n0 n2 n3', 'n4: n0 n2 n3'], 'n0? n2? n3?'],
  ['most look dead: who was dead before stays so', 5, ['n1: n0 n2 n3', 'n4: n0 n2 n3'], 'n0 n2? n3?', ['n0']],
  ['half is not most', 4, ['n1: n0 n2', 'n3: n0 n2'], 'n0 n2'],
  [
    'a rack that is cut off: the many judge the few',
    10,
    ['n0: n3 n4', 'n1: n3 n5', 'n2: n4', 'n3: n0 n1', 'n4: n0 n1', 'n5: n0 n2', 'n6: n1 n2', 'n7: n2'],
    'n0 n1 n2',
  ],
  [
    'two who accuse each other, each with another one',
    5,
    ['n0: n1', 'n1: n0', 'n2: n0', 'n3: n1'],
    'n0? n1?',
  ],
  ['the one whom more accuse', 5, ['n0: n1', 'n1: n0', 'n2: n0', 'n3: n1 n0'], 'n0'],
];
for (const [what, count, lines, verdict, before] of cases)
  test(what, () => assert.equal(judge(count, said(...lines), before), verdict));

test('two of our nodes that live have to agree on a cluster', () => {
  const by = (...names: string[]): Accusation[] =>
    names.map(name => ({ by: name, nodes: [], clusters: ['eu'], remoteNodes: [] }));
  const verdict = (count: number, accusations: Accusation[], ...dead: string[]): readonly string[] =>
    judgeClusters(accusations, nodes(count), new Set(dead)).flatMap(each => (each.agreed ? each.by : []));
  assert.deepEqual(verdict(3, by('n0', 'n1')), ['n0', 'n1']);
  assert.deepEqual(verdict(3, by('n0')), []);
  assert.deepEqual(verdict(3, by('n0', 'n1'), 'n1'), []);
  assert.deepEqual(verdict(1, by('n0')), ['n0']);
  assert.deepEqual(verdict(2, by('n0'), 'n1'), ['n0'], 'there is nobody else');
});

test('two of our nodes that live have to agree on a node of another cluster', () => {
  const by = (...names: string[]): Accusation[] =>
    names.map(name => ({ by: name, nodes: [], clusters: [], remoteNodes: ['eu/n7', 'broken'] }));
  assert.deepEqual(judgeRemoteNodes(by('n0', 'n1'), nodes(3), new Set()), [
    { cluster: 'eu', node: 'n7', by: ['n0', 'n1'], agreed: true },
  ]);
  assert.deepEqual(judgeRemoteNodes(by('n0', 'n1'), nodes(3), new Set(['n1'])), [
    { cluster: 'eu', node: 'n7', by: ['n0'], agreed: false },
  ]);
});

test('verdicts follow what nodes write on themselves, and a node that leaves takes its word along', async () => {
  const own = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  const put = (name: string, nodes: string[] = [], clusters: string[] = []): void => {
    const text = formatUnreachable({ nodes, clusters, remoteNodes: [] });
    own.upsert({
      name,
      uid: '',
      labels: {},
      annotations: text === undefined ? {} : { [unreachableAnnotation]: text },
      addresses: [],
      podCidrs: [],
      healthIp: '',
      ingressIp: '',
      encryptionKey: 0,
      bootId: '',
    });
  };
  for (const name of ['a', 'b', 'c', 'd']) put(name);
  own.markSynced();
  const verdicts = deriveVerdicts(own);
  await Promise.all([verdicts.nodes.whenSynced(), verdicts.clusters.whenSynced()]);
  assert.equal(verdicts.nodes.size, 0);
  put('a', ['d'], ['eu']);
  put('b', ['d'], ['eu']);
  await settled();
  assert.deepEqual([...verdicts.nodes.values()], [{ node: 'd', by: ['a', 'b'], dead: true }]);
  assert.deepEqual([...verdicts.clusters.values()], [{ cluster: 'eu', by: ['a', 'b'], agreed: true }]);
  own.upsert({ ...own.get('c')!, annotations: { [unreachableAnnotation]: 'no JSON' } });
  await settled();
  assert.equal(verdicts.nodes.get('d')?.dead, true);
  own.delete('b');
  await settled();
  assert.equal(verdicts.nodes.size, 0);
  assert.equal(verdicts.clusters.get('eu')?.agreed, false);
  put('a');
  await settled();
  assert.equal(verdicts.clusters.size, 0);
});
