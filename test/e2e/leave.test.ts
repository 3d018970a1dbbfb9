/** A cluster leaves the mesh and comes back: disconnected, disabled, enabled and connected again. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  answered,
  answersCome,
  type ClusterOfTest,
  eventually,
  isthmus,
  isthmusOk,
  mesh,
  namespace,
  ready,
  serverPod,
  serviceFor,
} from './mesh.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('leave');
  for (const each of [us, eu]) {
    const pod = `${each.name}-web`;
    await each.apply(serverPod(pod, { node: `${each.name}-worker`, labels: { app: 'web' } }), ns.name);
    await each.apply(serviceFor('web', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
    await ready(each, ns.name, pod);
  }
});
after(async () => {
  // Whatever failed: the next test file finds the clusters joined.
  if (us && !(await isJoined())) await join();
  await ns?.[Symbol.asyncDispose]();
});

const both = [
  ['us', 'eu'],
  ['eu', 'us'],
] as const;

const becomes = (from: ClusterOfTest, expected: string): Promise<true> =>
  answersCome(from, ns.name, `${from.name}-web`, expected, { seconds: 30 });

async function isJoined(): Promise<boolean> {
  const states = await Promise.all(both.map(([each]) => isthmus('clustermesh', 'status', '--context', each)));
  return states.every(({ code, stdout }) => code === 0 && stdout.includes('connected to all clusters'));
}

async function join(): Promise<void> {
  for (const [each] of both) await isthmusOk('clustermesh', 'enable', '--context', each);
  await isthmusOk('clustermesh', 'connect', '--context', 'us', '--destination-context', 'eu');
  for (const [each] of both)
    await isthmusOk('clustermesh', 'status', '--context', each, '--wait', '--wait-duration', '2m');
}

test('disconnect: each cluster answers its own clients only, and forgets the other', async () => {
  for (const each of [us, eu]) await becomes(each, 'eu-web us-web');
  const said = await isthmusOk(
    ...['clustermesh', 'disconnect', '--context', 'us', '--destination-context', 'eu'],
  );
  assert.match(said, /Disconnected clusters us <x> eu/);
  for (const each of [us, eu]) await becomes(each, `${each.name}-web`);
  for (const [name, other] of both) {
    const cluster = name === 'us' ? us : eu;
    const status = await isthmus('clustermesh', 'status', '--context', name);
    assert.equal(status.code, 0, status.stdout);
    assert.match(status.stdout, /No cluster connected/);
    const agent = ['-n', 'kube-system', 'exec', 'ds/isthmus', '--', 'isthmus', 'agent'];
    for (const view of ['nodes', 'ipcache', 'services'])
      assert.doesNotMatch(await cluster.kubectl(...agent, view, '-o', 'json'), new RegExp(`"${other}[-"/)]`));
  }
});

test('connected again, both answer', async () => {
  await isthmusOk('clustermesh', 'connect', '--context', 'us', '--destination-context', 'eu');
  for (const each of [us, eu]) await becomes(each, 'eu-web us-web');
});

test('disable: the other cluster sends nothing there any more, and says why', async () => {
  const said = await isthmusOk('clustermesh', 'disable', '--context', 'us');
  assert.match(
    said,
    /eu still has this cluster on its list: isthmus clustermesh disconnect --context eu --destination-context/,
  );
  // No request of eu goes to a cluster that has left, from the moment the command is back.
  for (let i = 0; i < 3; i++) assert.equal(await answered(eu, ns.name, 'eu-web'), 'eu-web');
  await becomes(us, 'us-web');
  const kinds = 'deployment/clustermesh-apiserver,service/clustermesh-apiserver,secret/cilium-clustermesh';
  assert.equal(
    await us.kubectl('-n', 'kube-system', 'get', ...kinds.split(','), '--ignore-not-found', '-o', 'name'),
    '',
  );
  const own = await isthmus('clustermesh', 'status', '--context', 'us');
  assert.equal(own.code, 1);
  assert.match(own.stdout, /clustermesh is not enabled: isthmus clustermesh enable/);
  await eventually('eu says what became of us', async () => {
    const { stdout, code } = await isthmus('clustermesh', 'status', '--context', 'eu');
    assert.equal(code, 1);
    assert.match(stdout, /us: 3\/3 configured, 0\/3 connected|us: 2\/2 configured, 0\/2 connected/);
    assert.match(stdout, /us on .*took back all it had told, as with clustermesh disable or uninstall/);
    return true;
  });
});

test('a cluster that is gone for good is taken off the list by its name', async () => {
  await isthmusOk('clustermesh', 'disconnect', '--context', 'eu', '--destination-context', 'us');
  await eventually('eu is well again', async () => {
    const { stdout, code } = await isthmus('clustermesh', 'status', '--context', 'eu');
    return code === 0 && stdout.includes('No cluster connected');
  });
});

test('enabled and connected again, both answer', async () => {
  await join();
  for (const each of [us, eu]) await becomes(each, 'eu-web us-web');
});
