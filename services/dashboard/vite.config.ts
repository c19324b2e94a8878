import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'

// The API serves the built files; `npm run dev` asks the API of METEOR_API for everything below /v1.
const API = process.env.METEOR_API ?? 'http://127.0.0.1:8000'

export default defineConfig({
  plugins: [svelte()],
  base: '/ui/',
  build: {
    outDir: '../api/features/dashboard/built',
    emptyOutDir: true,
    assetsDir: 'assets',
    assetsInlineLimit: 0, // the content policy takes fonts and images from files alone
    modulePreload: { polyfill: false },
    target: 'es2022',
    reportCompressedSize: false,
  },
  resolve: { conditions: process.env.VITEST ? ['browser'] : undefined },
  server: { proxy: Object.fromEntries(['/v1', '/healthz', '/readyz', '/docs'].map((path) => [path, API])) },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
})
