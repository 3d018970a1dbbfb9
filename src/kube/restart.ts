import type { KubeClient } from './client.ts';
import { pathOf, resources } from './resource.ts';
import { timestamp } from './time.ts';

/** Has the pods of a Deployment replaced, as `kubectl rollout restart` does. */
export async function restartDeployment(
  client: KubeClient,
  deployment: { readonly namespace: string; readonly name: string },
): Promise<void> {
  const template = { metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': timestamp() } } };
  await client.patch(pathOf(resources.deployments, deployment), 'strategic', { spec: { template } });
}
