// `npm run dev` serves http://localhost:5173, and passes /shop on to ../relying_service.py.
export default {
  server: {
    port: 5173,
    strictPort: true,
    proxy: {
      "/shop": { target: "http://localhost:9000", rewrite: (path) => path.slice("/shop".length) },
    },
  },
};
