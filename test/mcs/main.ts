import { upgradeIsthmus } from '../../src/cli/install.ts';
import { up } from '../../src/lab/lab.ts';
import { openLab } from '../../src/lab/open-lab.ts';
import { kindClusters } from '../kind-clusters.ts';
import { runLabSuite } from '../lab-suite.ts';

await runLabSuite({
  name: 'mcs',
  folder: import.meta.dirname,
  about: 'The Multi-Cluster Services API on two joined clusters, where it is switched on.',
  make: (name, { report, signal }) =>
    up({
      name,
      config: kindClusters({ name: 'us' }, { name: 'eu' }),
      install: true,
      join: true,
      report,
      signal,
    }),
  async prepare(name, { report, signal }) {
    for (const { context, kubeconfig } of openLab(name).clusters)
      await upgradeIsthmus({
        cluster: { context, kubeconfig, namespace: 'kube-system' },
        values: {
          set: ['clustermesh.mcsapi.enabled=true', 'clustermesh.mcsapi.corednsAutoConfigure.enabled=true'],
        },
        report,
        signal,
      });
  },
});
