import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import { unreachableAnnotation } from '../api/unreachable.ts';
import { REMOTE_NODES_BY_CLUSTER, type RemoteHealth, type RemoteNode } from '../clustermesh/rows.ts';
import { deriveVerdicts, loneWordTable, type Verdicts } from '../clustermesh/verdict-tables.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { nextRoundAt, Probes } from './probes.ts';

const INTERVAL = 400;
const belief = { failures: 4, hold: 2000 };

const addresses = (name: string): NodeRow['addresses'] => [
  { type: 'InternalIP', ip: `${name}:ip` },
  { type: 'CiliumInternalIP', ip: `${name}:tunnel` },
];
const row = (name: string): NodeRow => ({
  name,
  uid: '',
  labels: {},
  annotations: {},
  addresses: addresses(name),
  podCidrs: [],
  healthIp: '',
  ingressIp: '',
  encryptionKey: 0,
  bootId: '',
});

/** Clusters in which every node has a prober, as agents do, and the API server answers whoever is not cut off. */
class World {
  readonly nodes = new Table<NodeRow>({ name: 'nodes', keyOf: each => each.name });
  readonly remoteNodes = new Table<RemoteNode>({
    name: 'remote-nodes',
    keyOf: each => `${each.cluster}/${each.name}`,
    indexes: { [REMOTE_NODES_BY_CLUSTER]: each => [each.cluster] },
  });
  readonly clusters = new Table<RemoteHealth>({ name: 'clusters', keyOf: each => each.cluster });
  readonly probes = new Map<string, Probes>();
  /** Addresses that answer nobody. */
  readonly mute = new Set<string>();
  /** Nodes that hear nobody, and reach no API server. */
  readonly deaf = new Set<string>();
  /** Pairs that do not hear each other, `a b`. */
  readonly apart = new Set<string>();
  /** What everybody concludes who can read what the nodes say. */
  readonly verdicts = deriveVerdicts(this.nodes);
  /** The same as each agent sees it. */
  readonly views = new Map<string, Verdicts>();
  /** The API server answers nobody. */
  isSilent = false;
  asked = 0;
  doubts = 0;
  /** Connections that go to somebody who does not answer, `agent cluster`. */
  readonly silentVias: string[] = [];
  /** In milliseconds. */
  costOfAsking = 0;
  now = 0;

  constructor(count: number) {
    for (let at = 0; at < count; at++) this.nodes.upsert(row(`n${at}`));
    this.nodes.markSynced();
    for (const name of this.nodes.keys()) this.start(name);
  }

  addCluster(name: string, count: number): void {
    this.clusters.upsert({ cluster: name, dead: false, silent: false, controlPlaneNode: '', via: '' });
    for (let at = 0; at < count; at++) {
      const node = `${name}${at}`;
      this.remoteNodes.upsert({
        ...{ cluster: name, clusterId: 2, name: node, addresses: addresses(node), podCidrs: [] },
        ...{ region: '', routing: '' },
      });
    }
  }

  /** The agent of a node begins, knowing what is written on its node. */
  start(node: string): void {
    const answers: number[] = [];
    const alone = loneWordTable();
    const verdicts = deriveVerdicts(this.nodes, alone);
    this.views.set(node, verdicts);
    const silent = (): boolean => this.isSilent;
    const probes = new Probes({
      node,
      nodes: this.nodes,
      remoteNodes: this.remoteNodes,
      clusters: this.clusters,
      verdicts,
      alone,
      apiServer: {
        get silent() {
          return silent();
        },
        doubt: () => this.doubts++,
      },
      onSilentVia: cluster => this.silentVias.push(`${node} ${cluster}`),
      belief,
      now: () => this.now,
      socket: {
        ask: (address, number) => {
          this.asked++;
          for (const until = performance.now() + this.costOfAsking; performance.now() < until; );
          const there = address.replace(/:.*/, '');
          const heard =
            !this.mute.has(address) &&
            !this.deaf.has(node) &&
            !this.deaf.has(there) &&
            !this.apart.has(`${node} ${there}`) &&
            !this.apart.has(`${there} ${node}`);
          if (heard) answers.push(number);
          return undefined;
        },
        poll: () => answers.splice(0),
      },
    });
    probes.accusation.subscribe(({ after }) => {
      if (this.deaf.has(node) || this.isSilent) return;
      const annotations = after?.text === undefined ? {} : { [unreachableAnnotation]: after.text };
      this.nodes.upsert({ ...this.nodes.get(node)!, annotations });
    });
    this.probes.set(node, probes);
  }

  cut(node: string): void {
    this.deaf.add(node);
  }

  async rounds(count: number): Promise<void> {
    for (let at = 0; at < count; at++) {
      this.now += INTERVAL;
      await Promise.all(Array.from(this.probes.values(), probes => probes.round()));
      await settled();
    }
  }

  get dead(): string {
    return [...this.verdicts.nodes.values()]
      .map(({ node, dead }) => `${node}${dead ? '' : '?'}`)
      .sort()
      .join(' ');
  }

  /** Who is dead as the agent of a node sees it: nodes, clusters, nodes of clusters. */
  deadFor(node: string): string {
    const { nodes, clusters, remoteNodes } = this.views.get(node)!;
    return [
      ...Array.from(nodes.values()).flatMap(each => (each.dead ? [each.node] : [`${each.node}?`])),
      ...Array.from(clusters.values()).flatMap(each => (each.agreed ? [each.cluster] : [])),
      ...Array.from(remoteNodes.values()).flatMap(each =>
        each.agreed ? [`${each.cluster}/${each.node}`] : [],
      ),
    ].join(' ');
  }

  /** Its control plane speaks, or does not, and is on a node; agents read it by an address. */
  health(cluster: string, silent: boolean, controlPlaneNode = '', via = ''): void {
    this.clusters.upsert({ cluster, dead: false, silent, controlPlaneNode, via });
  }

  get deadRemote(): string {
    return [...this.verdicts.remoteNodes.values()]
      .flatMap(({ cluster, node, agreed }) => (agreed ? [`${cluster}/${node}`] : []))
      .join(' ');
  }

  get unheard(): string {
    return [...this.verdicts.clusters.values()]
      .flatMap(({ cluster, agreed }) => (agreed ? [cluster] : []))
      .sort()
      .join(' ');
  }
}

test('a node that is gone is found by its probers within five rounds, and is back when it answers long enough', async () => {
  const world = new World(6);
  await world.rounds(5);
  assert.equal(world.dead, '');
  world.cut('n2');
  await world.rounds(4);
  assert.equal(world.dead, '');
  await world.rounds(1);
  assert.equal(world.dead, 'n2');
  assert.equal(world.verdicts.nodes.get('n2')?.by.length, 3);
  assert.equal(world.probes.get('n2')!.doubtful, true, 'it hears nobody and says nothing');
  await world.rounds(50);
  assert.equal(world.dead, 'n2');
  world.deaf.delete('n2');
  await world.rounds(5);
  assert.equal(world.dead, 'n2');
  await world.rounds(2);
  assert.equal(world.dead, '');
});

test('two that do not hear each other are no reason to take either out of service', async () => {
  const world = new World(6);
  await world.rounds(5);
  world.apart.add('n0 n1');
  await world.rounds(20);
  assert.equal(world.dead, '');
});

test('its address outside of the pod network does not save a node that pods do not reach', async () => {
  const world = new World(4);
  await world.rounds(5);
  world.mute.add('n3:tunnel');
  await world.rounds(6);
  assert.equal(world.dead, 'n3');
  const [prober] = world.verdicts.nodes.get('n3')!.by;
  assert.deepEqual(
    world.probes.get(prober!)!.status.find(each => each.node === 'n3'),
    { cluster: '', node: 'n3', state: 'silent', note: 'answers outside of the pod network' },
  );
});

test('who never answered is no worse than before: ICMP may be filtered', async () => {
  const world = new World(4);
  world.mute.add('n1:ip').add('n1:tunnel');
  await world.rounds(30);
  assert.equal(world.dead, '');
});

test('a prober that dies with a node is replaced by the next', async () => {
  const world = new World(8);
  await world.rounds(5);
  world.cut('n2');
  await world.rounds(6);
  const before = world.verdicts.nodes.get('n2')!.by;
  for (const prober of before.slice(0, 2)) world.cut(prober);
  await world.rounds(14);
  assert.equal(world.dead, ['n2', ...before.slice(0, 2)].sort().join(' '));
  const after = world.verdicts.nodes.get('n2')!.by.filter(each => !world.deaf.has(each));
  assert.ok(after.length >= 2, `now it is ${after.join(' ')} who say so`);
});

test('most nodes fall silent at once: none is taken out of service', async () => {
  const world = new World(5);
  await world.rounds(5);
  for (const node of ['n0', 'n1', 'n2']) for (const way of ['ip', 'tunnel']) world.mute.add(`${node}:${way}`);
  await world.rounds(10);
  assert.doesNotMatch(world.dead, /n\d(?!\?)/);
});

test('an agent that starts again goes on from what it said before', async () => {
  const world = new World(4);
  world.addCluster('eu', 3);
  await world.rounds(5);
  world.cut('n3');
  for (const at of [0, 1, 2]) world.deaf.add(`eu${at}`);
  await world.rounds(8);
  assert.equal(world.dead, 'n3');
  assert.equal(world.unheard, 'eu');
  for (const node of ['n0', 'n1', 'n2']) world.start(node);
  await world.rounds(20);
  assert.equal(world.dead, 'n3');
  assert.equal(world.unheard, 'eu');
  world.deaf.clear();
  await world.rounds(10);
  assert.equal(world.dead, '');
  assert.equal(world.unheard, '');
});

test('a cluster is silent when none of its nodes answers, not when one does not', async () => {
  const world = new World(5);
  world.addCluster('eu', 3);
  world.addCluster('ap', 3);
  await world.rounds(6);
  world.cut('eu1');
  await world.rounds(30);
  assert.equal(world.unheard, '');
  world.cut('eu0');
  world.cut('eu2');
  await world.rounds(6);
  assert.equal(world.unheard, 'eu');
  world.clusters.delete('eu');
  for (const key of ['eu/eu0', 'eu/eu1', 'eu/eu2']) world.remoteNodes.delete(key);
  await world.rounds(2);
  assert.equal(world.unheard, '', 'a cluster that was disconnected is nobody’s concern');
});

test('while all is well a node asks three others once a round, and a few one node of each cluster', async () => {
  const world = new World(20);
  for (let at = 0; at < 10; at++) world.addCluster(`c${at}x`, 4);
  await world.rounds(10);
  const before = world.asked;
  await world.rounds(10);
  assert.equal((world.asked - before) / 10, 20 * 3 + 10 * 3);
});

test('a cluster that never answered is asked seldom, one address each time, and is heard when it does', async () => {
  const world = new World(1);
  world.addCluster('eu', 3);
  const eu = ['eu0', 'eu1', 'eu2'].flatMap(name => [`${name}:ip`, `${name}:tunnel`]);
  for (const address of eu) world.mute.add(address);
  const asked = async (rounds: number): Promise<number> => {
    const before = world.asked;
    await world.rounds(rounds);
    return world.asked - before;
  };
  const state = (): string | undefined =>
    world.probes.get('n0')!.status.find(each => each.node === '')?.state;
  assert.equal(await asked(10), 60);
  assert.equal(await asked(30), 6);
  // Its control plane falls silent: nobody else is left to tell.
  world.clusters.upsert({ cluster: 'eu', dead: false, silent: true, controlPlaneNode: '', via: '' });
  assert.ok((await asked(10)) >= 60);
  world.clusters.upsert({ cluster: 'eu', dead: false, silent: false, controlPlaneNode: '', via: '' });
  assert.equal(state(), 'never heard');
  world.mute.delete('eu1:ip');
  await world.rounds(31);
  assert.equal(state(), 'answers');
  // Now its word counts, in every round.
  world.mute.add('eu1:ip');
  await world.rounds(6);
  assert.equal(state(), 'silent');
});

test('single nodes of a cluster are probed while it is silent, by three each, and not otherwise', async () => {
  const world = new World(6);
  world.addCluster('eu', 8);
  await world.rounds(6);
  world.cut('eu3');
  await world.rounds(10);
  assert.equal(world.deadRemote, '', 'the cluster says itself which of its nodes are dead');
  world.health('eu', true);
  await world.rounds(8);
  assert.equal(
    world.deadRemote,
    'eu/eu3',
    'although nobody has ever heard it: others of its cluster are heard',
  );
  assert.equal(world.verdicts.remoteNodes.get('eu/eu3')?.by.length, 3);
  world.cut('eu5');
  await world.rounds(5);
  assert.equal(world.deadRemote, 'eu/eu3 eu/eu5');
  world.deaf.delete('eu3');
  await world.rounds(8);
  assert.equal(world.deadRemote, 'eu/eu5', 'it answers again');
  world.health('eu', false);
  await world.rounds(2);
  assert.equal(world.deadRemote, '');
});

test('the node that runs a control plane is probed always, by the few that probe its cluster', async () => {
  const world = new World(6);
  world.addCluster('eu', 8);
  world.health('eu', false, 'eu6');
  await world.rounds(6);
  const before = world.asked;
  await world.rounds(10);
  assert.equal((world.asked - before) / 10, 6 * 3 + 3 + 3);
  world.cut('eu6');
  await world.rounds(5);
  assert.equal(world.deadRemote, 'eu/eu6');
  world.health('eu', false, 'eu2');
  await world.rounds(2);
  assert.equal(world.deadRemote, '', 'it runs elsewhere: who is dead its cluster says');
});

test('whoever carries the connection to a cluster is probed by each agent, and tried once when it misses two probes', async () => {
  const world = new World(2);
  world.addCluster('eu', 3);
  world.health('eu', false, '', 'eu1:ip');
  await world.rounds(4);
  const before = world.asked;
  await world.rounds(10);
  assert.equal((world.asked - before) / 10, 2 * (1 + 1 + 1));

  world.cut('eu1');
  // Asked before it was cut off, and then twice in vain.
  await world.rounds(3);
  assert.deepEqual(world.silentVias.sort(), ['n0 eu', 'n1 eu']);
  await world.rounds(10);
  assert.equal(world.silentVias.length, 2, 'once');
  assert.equal(world.deadRemote, '', 'its own cluster says whether it is dead');

  world.health('eu', false, '', 'eu2:ip');
  await world.rounds(3);
  world.mute.add('eu2:ip');
  await world.rounds(3);
  assert.deepEqual(world.silentVias.slice(2).sort(), ['n0 eu', 'n1 eu'], 'of the next connection, too');

  // Who never answers, as many load balancers, is not missed.
  world.mute.add('lb');
  world.health('eu', false, '', 'lb');
  await world.rounds(10);
  assert.equal(world.silentVias.length, 4);
});

test('of a silent cluster that is cut off, or whose nodes answer no ICMP, no single node is said to be dead', async () => {
  const world = new World(6);
  world.addCluster('eu', 4);
  world.addCluster('ap', 4);
  for (const at of [0, 1, 2, 3]) world.mute.add(`ap${at}:ip`).add(`ap${at}:tunnel`);
  world.health('eu', true);
  world.health('ap', true);
  await world.rounds(10);
  assert.equal(world.deadRemote, '');
  for (const at of [0, 1, 2, 3]) world.cut(`eu${at}`);
  await world.rounds(20);
  assert.equal(world.deadRemote, '');
  assert.equal(world.unheard, 'eu');
  assert.equal(
    world.verdicts.clusters.get('eu')?.by.length,
    3,
    'those who probe it for comparison are silent',
  );
});

test('an agent that starts again while a cluster is silent goes on from what it said of its nodes', async () => {
  const world = new World(4);
  world.addCluster('eu', 4);
  world.health('eu', true);
  await world.rounds(6);
  world.cut('eu1');
  await world.rounds(6);
  assert.equal(world.deadRemote, 'eu/eu1');
  const known = [...world.remoteNodes.values()];
  for (const { name } of known) world.remoteNodes.delete(`eu/${name}`);
  world.health('eu', false);
  for (const node of world.nodes.keys()) world.start(node);
  await world.rounds(10);
  assert.equal(world.deadRemote, 'eu/eu1', 'nothing has been heard of the cluster yet');
  for (const each of known) world.remoteNodes.upsert(each);
  world.health('eu', true);
  await world.rounds(10);
  assert.equal(world.deadRemote, 'eu/eu1');
  world.deaf.delete('eu1');
  await world.rounds(8);
  assert.equal(world.deadRemote, '');
});

test('however large a silent cluster is, a node asks no more than some of it in a round', async () => {
  const world = new World(3);
  world.addCluster('eu', 500);
  world.health('eu', true);
  await world.rounds(40);
  const before = world.asked;
  await world.rounds(10);
  assert.equal((world.asked - before) / 10, 3 * 2 + 3 + 3 * 64);
});

/** How often the event loop comes round while something is done. */
async function turnsOf(work: () => Promise<void>): Promise<number> {
  let turns = 0;
  const count = (): void => {
    turns++;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  await work();
  clearImmediate(timer);
  return turns;
}

test('to ask nodes of hundreds of clusters is no long task: others have their turn in between', async () => {
  const world = new World(1);
  for (let n = 0; n < 300; n++) world.addCluster(`c${n}-`, 3);
  world.costOfAsking = 0.1;
  const turns = await turnsOf(() => world.probes.get('n0')!.round());
  assert.ok(world.asked >= 900, `${world.asked}`);
  assert.ok(turns >= 3, `${turns} turns`);
});

test('nor is it to find out whom to ask, where many clusters change at once', async () => {
  const world = new World(1);
  for (let n = 0; n < 60; n++) world.addCluster(`c${n}-`, 1);
  const { remoteNodes } = world;
  const by = remoteNodes.by.bind(remoteNodes);
  remoteNodes.by = (index, value) => {
    for (const until = performance.now() + 1; performance.now() < until; );
    return by(index, value);
  };
  const turns = await turnsOf(() => world.probes.get('n0')!.round());
  assert.ok(turns >= 5, `${turns} turns`);
  assert.ok(world.asked >= 60, `${world.asked}`);
});

test('while the API server is silent every agent finds dead nodes and clusters itself', async () => {
  const world = new World(8);
  world.addCluster('eu', 4);
  world.addCluster('ap', 4);
  await world.rounds(6);
  world.isSilent = true;
  await world.rounds(3);
  world.cut('n2');
  for (const at of [0, 1, 2, 3]) world.cut(`eu${at}`);
  await world.rounds(6);
  for (const name of ['n0', 'n1', 'n3', 'n4', 'n5', 'n6', 'n7'])
    assert.equal(world.deadFor(name), 'n2 eu', name);
  assert.equal(world.dead, '', 'nobody could be told');
  world.health('ap', true);
  world.cut('ap3');
  await world.rounds(8);
  assert.equal(world.deadFor('n0'), 'n2 eu ap/ap3');
  assert.equal(world.deadFor('n6'), 'n2 eu ap/ap3');
  world.deaf.clear();
  await world.rounds(7);
  assert.equal(world.deadFor('n0'), '', 'whoever answers is back, API server or not');
});

test('a node that died before an agent began to probe it is found, too', async () => {
  const world = new World(12);
  await world.rounds(6);
  world.isSilent = true;
  world.cut('n2');
  await world.rounds(8);
  for (const name of world.nodes.keys()) if (name !== 'n2') assert.equal(world.deadFor(name), 'n2', name);
});

test('who was dead when the API server fell silent stays so until it answers', async () => {
  const world = new World(8);
  await world.rounds(6);
  world.cut('n2');
  await world.rounds(6);
  world.isSilent = true;
  for (let round = 0; round < 12; round++) {
    await world.rounds(1);
    assert.equal(world.deadFor('n5'), 'n2', `round ${round}`);
  }
  world.isSilent = false;
  for (let round = 0; round < 12; round++) {
    await world.rounds(1);
    assert.equal(world.deadFor('n5'), 'n2', `round ${round} after it`);
  }
});

test('an agent that is cut off from everybody takes nobody out of service', async () => {
  const world = new World(5);
  world.addCluster('eu', 3);
  await world.rounds(6);
  world.isSilent = true;
  world.cut('n0');
  await world.rounds(20);
  assert.equal(world.deadFor('n0'), '');
  for (const node of ['n1', 'n2', 'n3']) world.cut(node);
  await world.rounds(20);
  assert.equal(world.deadFor('n4'), 'n0 n1? n2? n3?', 'most nodes look dead: none is added');
});

test('what an agent finds alone is not said to the others, and what is its own to say is once they can hear it', async () => {
  const world = new World(8);
  await world.rounds(6);
  world.isSilent = true;
  world.cut('n2');
  await world.rounds(8);
  assert.ok(world.doubts > 0, 'the API server was asked when a node fell silent');
  const says = [...world.probes].filter(([, { accusation }]) =>
    [...accusation.values()].some(each => each.text?.includes('n2')),
  );
  assert.equal(says.length, 3);
});

test('a node that never answered is not held to be dead because the API server is silent', async () => {
  const world = new World(4);
  world.mute.add('n1:ip').add('n1:tunnel');
  await world.rounds(6);
  world.isSilent = true;
  await world.rounds(20);
  assert.equal(world.deadFor('n0'), '');
});

test('rounds that begin late do not add up, and every question has time to be answered', () => {
  assert.equal(nextRoundAt(1000, 1001, 300), 1300);
  assert.equal(nextRoundAt(1000, 1150, 300), 1300);
  assert.equal(nextRoundAt(1000, 1250, 300), 1400);
  assert.equal(nextRoundAt(1000, 9000, 300), 9150, 'those that were missed are not made up for');
});
