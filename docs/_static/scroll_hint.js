// Mark what can be scrolled to the left or right, so that the style sheet can show it.
"use strict";

function mark(box) {
  const rest = box.scrollWidth - box.clientWidth - box.scrollLeft;
  box.classList.toggle("more-left", box.scrollLeft > 1);
  box.classList.toggle("more-right", rest > 1);
}

document.addEventListener("DOMContentLoaded", () => {
  const boxes = document.querySelectorAll(
    ".pst-scrollable-table-container, .bd-article pre, .bd-article p:has(> img:only-child), div.math",
  );
  const watch = new ResizeObserver((entries) => entries.forEach((entry) => mark(entry.target)));
  boxes.forEach((box) => {
    watch.observe(box);
    box.addEventListener("scroll", () => mark(box), { passive: true });
  });
});
