/** Both clusters get new CAs, with all certificates, and are connected anew, while requests flow. */
import { ownCommand } from '../../src/lab/own-command.ts';
import { run } from '../../src/lab/process.ts';
import type { Bed, Side } from './bed.ts';
import { costOf, monotonic } from './client.ts';
import { stateOf, steady, until } from './conditions.ts';
import type { Row, Scenario } from './scenario.ts';

/** As docs/mesh.md says. */
async function newAuthority({ kubectl }: Side): Promise<void> {
  const of = ['-n', 'kube-system'];
  const certificate = async (): Promise<string> =>
    kubectl(...of, 'get', 'secret', 'clustermesh-apiserver-server-cert', '-o', 'jsonpath={.data.ca\\.crt}');
  const before = await certificate();
  await kubectl(...of, 'delete', 'secret', 'isthmus-ca');
  await kubectl(...of, 'rollout', 'restart', 'deployment/isthmus-operator');
  await until('certificates of the new CA', 120, async () => (await certificate()) !== before);
  await kubectl(...of, 'rollout', 'restart', 'deployment/clustermesh-apiserver');
  await kubectl(...of, 'rollout', 'status', 'deployment/clustermesh-apiserver', '--timeout=180s');
}

const isReady = async ({ us, eu }: Bed): Promise<boolean> =>
  (await stateOf(us, 'eu')) === 'ready' && (await stateOf(eu, 'us')) === 'ready';

export const rotation: Scenario = {
  name: 'CA rotation',
  async run(bed) {
    const { us, eu, lab } = bed;
    await using near = await steady(eu, 'us');
    await using far = await steady(us, 'eu');
    const at = monotonic();
    await Promise.all([us, eu].map(newAuthority));
    await until('each calls the other stale', 60, async () => (await stateOf(us, 'eu')) === 'stale');
    const [a, b] = [us, eu].map(side => lab.cluster(side.cluster.name).context);
    const [file, ...args] = ownCommand(
      'clustermesh',
      'connect',
      '--context',
      a!,
      '--destination-context',
      b!,
    );
    const staleAt = monotonic();
    await run(file, args);
    await until('each calls the other ready', 180, () => isReady(bed));
    const note = `ready ${((monotonic() - staleAt) / 1000).toFixed(0)} s after connect was begun`;
    const row = (client: typeof near, name: string): Row => ({
      what: 'new CAs and certificates in both clusters',
      client: name,
      cost: costOf(client.since(at), at),
      limit: 0,
      note: name === 'us' ? note : '',
    });
    return [row(near, 'eu'), row(far, 'us')];
  },
};
