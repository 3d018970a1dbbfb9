import type { Command } from 'commander';

export function register(program: Command): void {
  program.command('install').description('Install Isthmus in a cluster with its Helm chart');
  program.command('upgrade').description('Upgrade Isthmus, or change its Helm values');
  program.command('uninstall').description('Remove Isthmus from a cluster and clean its nodes');
}
