import { upgradeIsthmus } from '../src/cli/install.ts';
import { waitForStatus } from '../src/cli/status.ts';
import type { LabCluster } from '../src/lab/open-lab.ts';

/** Changes how a cluster's pods reach other nodes. Pods keep the MTU that they were started with. */
export async function setRoutingMode(
  cluster: LabCluster,
  mode: 'tunnel' | 'native',
  report: (line: string) => void,
): Promise<void> {
  const own = { context: cluster.plan.context, kubeconfig: cluster.kubeconfig, namespace: 'kube-system' };
  await upgradeIsthmus({ cluster: own, values: { set: [`routingMode=${mode}`] }, report });
  await cluster.kubectl('-n', 'kube-system', 'rollout', 'status', 'daemonset/isthmus', '--timeout=180s');
  await waitForStatus({ cluster: own, duration: 120_000, report });
}
