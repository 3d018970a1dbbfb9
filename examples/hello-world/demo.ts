/**
 * `npm run demo`: two clusters on this machine, joined, and a service that answers from both and
 * survives the loss of either. The story, step by step, with the names of its manifests beside this file.
 * Options: --keep leaves the clusters running; --name gives the lab another name.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { readState } from '../../src/lab/state.ts';
import { Story } from './story.ts';

const { values: options } = parseArgs({
  options: { keep: { type: 'boolean', default: false }, name: { type: 'string', default: 'demo' } },
});
const here = import.meta.dirname;
const root = join(here, '../..');
const binaries = await ensureBinaries(['kubectl'], { report: line => console.error(line) });
const story = new Story({
  ...process.env,
  PATH: `${join(root, 'bin')}:${join(binaries.kubectl, '..')}:${process.env.PATH}`,
});

const clusters = ['us', 'eu'] as const;
type Cluster = (typeof clusters)[number];
const ask = 'for i in $(seq 1 10); do wget -qO- nginx:80; echo ""; done';

const isthmus = (...args: string[]) => story.run('isthmus', args);
const kubectl = (cluster: Cluster, ...args: string[]) =>
  story.run('kubectl', ['--context', contextOf(cluster), ...args]);
/** `isthmus-us`, unless another lab on this machine has that name. */
const contextOf = (cluster: Cluster): string =>
  readState(options.name)?.plan.clusters.find(each => each.name === cluster)?.context ?? `isthmus-${cluster}`;
/** The short name that `isthmus` takes for a context, where it is not ambiguous. */
const shortOf = (cluster: Cluster): string =>
  contextOf(cluster) === `isthmus-${cluster}` ? cluster : contextOf(cluster);

/** Asks the hello-world service ten times from the busybox of a cluster; counts who answered. */
async function answers(cluster: Cluster, times = 1): Promise<Record<Cluster | 'failed', number>> {
  const counts = { us: 0, eu: 0, failed: 0 };
  for (let i = 0; i < times; i++) {
    const command = ['exec', 'deploy/busybox-deployment', '--', '/bin/sh', '-c', ask];
    const out = await kubectl(cluster, ...command);
    counts.us += out.split('"cluster": "us"').length - 1;
    counts.eu += out.split('"cluster": "eu"').length - 1;
  }
  counts.failed = times * 10 - counts.us - counts.eu;
  return counts;
}

/** Asks again until the answers are as expected (a change needs milliseconds to arrive), at most ten seconds. */
async function expectAnswers(
  cluster: Cluster,
  expected: (counts: Record<Cluster | 'failed', number>) => boolean,
  times = 1,
): Promise<{ seen: string; ok: boolean }> {
  const began = performance.now();
  let counts = await answers(cluster, times);
  while (!expected(counts) && performance.now() - began < 10_000) counts = await answers(cluster, times);
  const seen = `asked in ${cluster}: ${counts.us} answers from us, ${counts.eu} from eu, ${counts.failed} failed`;
  return { seen, ok: expected(counts) };
}

const both = async (check: (cluster: Cluster) => Promise<{ seen: string; ok: boolean }>) => {
  const results = [await check('us'), await check('eu')];
  return { seen: results.map(each => each.seen).join('; '), ok: results.every(each => each.ok) };
};
const other = (cluster: Cluster): Cluster => (cluster === 'us' ? 'eu' : 'us');

/** Measures, with a client asking without pause, how long answers fail or come from the wrong place after `act`. */
async function failover(
  cluster: Cluster,
  act: () => Promise<unknown>,
  arrived: (line: string) => boolean,
): Promise<{ seen: string; ok: boolean }> {
  const loop = 'while :; do wget -qO- nginx:80 2>/dev/null || echo failed; echo ""; done';
  let failed = 0;
  let lastFailure = 0;
  let switched = 0;
  let acted = 0;
  const began = Promise.withResolvers<void>();
  const client = story.follow(
    'kubectl',
    ['--context', contextOf(cluster), 'exec', 'deploy/busybox-deployment', '--', '/bin/sh', '-c', loop],
    (line, at) => {
      if (!line) return;
      began.resolve();
      if (!acted) return;
      if (line === 'failed') {
        failed++;
        lastFailure = at;
      } else if (arrived(line)) switched ||= at;
      else switched = 0;
    },
  );
  client.once('close', code =>
    began.reject(new Error(`the asking client ended with ${code} before its first answer`)),
  );
  await began.promise;
  acted = performance.now();
  await act();
  const until = performance.now() + 30_000;
  while (performance.now() < until && !(switched && performance.now() - switched > 2000)) await delay(50);
  client.kill();
  const at = ((switched - acted) / 1000).toFixed(2);
  const errors = failed
    ? `${failed} requests failed, the last after ${((lastFailure - acted) / 1000).toFixed(2)} s`
    : 'no request failed';
  return {
    seen: switched ? `answers moved ${at} s after the command; ${errors}` : `answers never moved; ${errors}`,
    ok: switched > 0,
  };
}

async function tell(): Promise<void> {
  story.chapter('1. Create the two Kubernetes clusters');
  await story.need('two clusters of three nodes', async () => {
    await isthmus(
      'lab',
      'up',
      '--name',
      options.name,
      '-f',
      join(here, 'kind-us-cluster.yaml'),
      '-f',
      join(here, 'kind-eu-cluster.yaml'),
    );
    const nodes = await Promise.all(clusters.map(each => kubectl(each, 'get', 'nodes', '--no-headers')));
    const count = nodes.map(each => each.trim().split('\n').length);
    return {
      seen: `${count[0]} nodes in us, ${count[1]} in eu (NotReady: no network yet)`,
      ok: count.every(each => each === 3),
    };
  });

  story.chapter('2. Install Isthmus in the two clusters');
  await story.need('Isthmus is the network of both', async () => {
    const id = { us: 1, eu: 2 };
    for (const each of clusters)
      await isthmus(
        'install',
        '--context',
        contextOf(each),
        '--set',
        `cluster.name=${each}`,
        '--set',
        `cluster.id=${id[each]}`,
        '--set',
        'ipam.mode=kubernetes',
      );
    for (const each of clusters) await isthmus('status', '--context', contextOf(each), '--wait');
    for (const each of clusters)
      await kubectl(each, 'wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=60s');
    return { seen: 'every node Ready', ok: true };
  });

  story.chapter('3. Enable the cluster mesh and connect');
  await story.need('the clusters are one mesh', async () => {
    for (const each of clusters)
      await isthmus('clustermesh', 'enable', '--context', contextOf(each), '--service-type', 'NodePort');
    await isthmus(
      'clustermesh',
      'connect',
      '--context',
      shortOf('us'),
      '--destination-context',
      shortOf('eu'),
    );
    for (const each of clusters) await isthmus('clustermesh', 'status', '--context', shortOf(each), '--wait');
    return { seen: 'us and eu connected', ok: true };
  });

  story.chapter('4. Deploy the hello world application');
  await story.need('each cluster answers its own clients', async () => {
    for (const each of clusters) await kubectl(each, 'apply', '-f', join(here, `deployment-${each}.yaml`));
    for (const each of clusters)
      for (const name of ['rebel-base', 'busybox-deployment'])
        await kubectl(each, 'rollout', 'status', `deployment/${name}`, '--timeout=90s');
    return both(each => expectAnswers(each, counts => counts[each] === 10));
  });

  story.chapter('5. Make hello world a global service');
  await story.claim('both clusters answer both', async () => {
    for (const each of clusters)
      await kubectl(each, 'annotate', 'service', 'nginx', 'service.cilium.io/global=true');
    return both(each => expectAnswers(each, counts => counts.us > 0 && counts.eu > 0 && !counts.failed, 2));
  });

  story.chapter('6. Affinity local: stay at home while home answers');
  await story.claim('affinity local keeps requests at home', async () => {
    for (const each of clusters)
      await kubectl(each, 'annotate', 'service', 'nginx', 'service.cilium.io/affinity=local');
    return both(each => expectAnswers(each, counts => counts[each] === 20, 2));
  });
  await story.claim('scaled to zero in us, eu answers', () =>
    failover(
      'us',
      () => kubectl('us', 'scale', 'deployment', 'rebel-base', '--replicas', '0'),
      line => line.includes('"cluster": "eu"'),
    ),
  );
  await story.claim('all ten from eu', () => expectAnswers('us', counts => counts.eu === 10));
  await story.claim('scaled back, us answers again', () =>
    failover(
      'us',
      () => kubectl('us', 'scale', 'deployment', 'rebel-base', '--replicas', '2'),
      line => line.includes('"cluster": "us"'),
    ),
  );

  story.chapter('7. A whole cluster is cut off, and healed');
  await story.claim('eu cut off: us does not notice', async () => {
    await isthmus('lab', 'fault', 'cut', 'eu', '--name', options.name);
    return expectAnswers('us', counts => counts.us === 20, 2);
  });
  await story.claim('healed: the mesh is whole again', async () => {
    await isthmus('lab', 'fault', 'heal', '--name', options.name);
    for (const each of clusters) await isthmus('clustermesh', 'status', '--context', shortOf(each), '--wait');
    await kubectl('us', 'annotate', '--overwrite', 'service', 'nginx', 'service.cilium.io/affinity=remote');
    const remote = await expectAnswers('us', counts => counts[other('us')] === 10);
    await kubectl('us', 'annotate', '--overwrite', 'service', 'nginx', 'service.cilium.io/affinity=local');
    return { ...remote, seen: `affinity remote, ${remote.seen}` };
  });
}

try {
  await tell();
} catch (error) {
  story.say(`\n${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
if (!story.end()) process.exitCode = 1;
if (options.keep) {
  story.say(`
The clusters are yours:
  export PATH=${join(binaries.kubectl, '..')}:$PATH
  kubectl --context ${contextOf('us')} get pods -A -o wide
  kubectl --context ${contextOf('eu')} get nodes
  npx isthmus status --context ${shortOf('us')}
  npx isthmus lab fault cut eu --name ${options.name}
  npx isthmus lab down --name ${options.name}     when you have seen enough`);
} else {
  await isthmus('lab', 'down', '--name', options.name);
}
